"""Run by `accelerate launch` or torchrun: a stage without noise, so that runs of one and two processes can be compared.

two_processes.py CONFIG OUT [STEPS | resume]
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import torch

from signet_train.config import TrainConfig
from signet_train.stages.run import run_stage
from signet_train.stages.stopping import Stopped, StopRequest


def main() -> None:
    config = TrainConfig.model_validate_json(Path(sys.argv[1]).read_text())
    how = sys.argv[3] if len(sys.argv) > 3 else ""
    left = int(how) if how.isdecimal() else sys.maxsize

    def asked(_request: StopRequest, _accelerator: object) -> bool:
        nonlocal left
        left -= 1
        return left == 0

    with (
        patch("signet_train.model.router.F.gumbel_softmax", lambda logits, tau: (logits / tau).softmax(-1)),
        # Steps as large as the gradient: Adam's would make much of the last bit of one that is all but zero.
        patch("torch.optim.AdamW", lambda groups, **_: torch.optim.SGD(groups, lr=0.01)),
        patch.object(StopRequest, "by_anyone", asked),
    ):
        try:
            run_stage(config, Path(sys.argv[2]), "cpu", resume=how == "resume")
        except Stopped:
            if not how.isdecimal():
                raise


if __name__ == "__main__":
    main()
