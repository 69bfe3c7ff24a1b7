"""All targets, by name. A module here has a tuple `TARGETS`; what a package of another extra reads has its own."""

from __future__ import annotations

from tests.fuzz.target import Target
from tests.fuzz.targets import bundles, corpora, keypoints, manifests

TARGETS: dict[str, Target] = {
    target.name: target for module in (bundles, corpora, keypoints, manifests) for target in module.TARGETS
}
