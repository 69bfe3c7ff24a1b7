"""Run by `accelerate launch`: a stage without noise, so that runs of one and two processes can be compared."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import torch

from signet_train.config import TrainConfig
from signet_train.stages.run import run_stage


def main() -> None:
    config = TrainConfig.model_validate_json(Path(sys.argv[1]).read_text())
    with (
        patch("signet_train.model.router.F.gumbel_softmax", lambda logits, tau: (logits / tau).softmax(-1)),
        # Steps as large as the gradient: Adam's would make much of the last bit of one that is all but zero.
        patch("torch.optim.AdamW", lambda groups, **_: torch.optim.SGD(groups, lr=0.01)),
    ):
        run_stage(config, Path(sys.argv[2]), "cpu")


if __name__ == "__main__":
    main()
