"""The models of a server: those that are here, and of them those that are loaded, one `Translator` for everybody."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from signet_runtime.bundle import Bundle, Manifest, demo_bundle_path, read_manifest
from signet_runtime.errors import BundleError, ModelError, SignetError
from signet_runtime.models.home import Home
from signet_runtime.serve.problems import Problem
from signet_runtime.serve.settings import Settings
from signet_runtime.translator import Translator

DEMO = "demo"


@dataclass
class Loaded:
    """A model in memory.

    Attributes:
        translator: its engines are everybody's; nobody translates with it itself, but with one `beside` it.
        users: translations that are at work with it.
    """

    name: str
    translator: Translator
    users: int = 0

    @property
    def manifest(self) -> Manifest:
        """The bundle's, as it was when it was loaded."""
        return self.translator.bundle.manifest


class Shelf:
    """The models that a server has.

    Args:
        closed: called with a model that is being closed, for whoever keeps something of it.

    Raises:
        BundleError: a directory that was named is no bundle, or two of them have the same name.
        ModelError: the models that are here cannot be read.
    """

    def __init__(self, settings: Settings, closed: Callable[[Loaded], None] = lambda loaded: None) -> None:
        self._settings, self._closed = settings, closed
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()  # the one that was used last is last
        self._named: dict[str, Path] = {}
        for path in settings.bundles:
            read_manifest(path)
            name = path.resolve().name
            if self._named.setdefault(name, path) != path:
                raise BundleError(f"{path}: another of the bundles that are served is called {name!r}; rename one")
        paths = self.paths()
        for name in settings.only or ():
            if name not in paths:
                raise ModelError(f"{name}: not here ({Home.default().path}); get it by: signet-models pull {name}")
        self.default = next(iter(paths))

    def paths(self) -> dict[str, Path]:
        """Return where every model is, by its name; the first one is the default. Nothing of them is read."""
        found = dict(self._named)
        only = self._settings.only
        for model in Home.default().all_installed():
            if model.product == "bundle" and (only is None or model.name in only):
                found.setdefault(model.name, Home.default().product(model.name))
        found.setdefault(DEMO, demo_bundle_path())
        return found

    def described(self) -> list[dict[str, object]]:
        """Return what there is, for `/v1/models`; what is damaged is left out."""
        rows: list[dict[str, object]] = []
        for name, path in self.paths().items():
            try:
                manifest = read_manifest(path)
            except SignetError:
                continue
            rows.append(
                {
                    "name": name,
                    "about": manifest.notice or "",
                    "sign_languages": sorted({tongue for e in manifest.experts for tongue in e.sign_languages}),
                    "languages": [manifest.language],
                    "experts": [expert.name for expert in manifest.experts],
                    "frame_rate": manifest.frame_rate,
                    "max_frames": manifest.max_frames,
                    "pose": manifest.pose_estimator,
                    "default": name == self.default,
                }
            )
        return rows

    def check(self, name: str | None) -> str:
        """Return the name of the model that is meant; None is the default.

        Raises:
            Problem: there is no such model.
        """
        wanted = name or self.default
        paths = self.paths()
        if wanted not in paths:
            raise Problem(404, "no_such_model", f"no model here has this name; there are: {', '.join(paths)}")
        return wanted

    def frame_rate(self, name: str) -> float | None:
        """Return a model's clock.

        Raises:
            Problem: it is not here any more, or damaged.
        """
        try:
            return read_manifest(self.paths()[name]).frame_rate
        except (KeyError, SignetError) as error:
            raise _gone(name) from error

    @contextmanager
    def taken(self, name: str) -> Iterator[Loaded]:
        """Yield a model, loaded if it is not; it stays loaded as long as the block lasts.

        It is compared with what is on the disk before: what was removed or replaced there is not used any more.

        Raises:
            Problem: it is not here any more, or damaged.
            SignetError: it cannot run here.
        """
        with self._lock:
            one_at_a_time = self._loading.setdefault(name, threading.Lock())
        with one_at_a_time:
            loaded = self._current(name)
        try:
            yield loaded
        finally:
            with self._lock:
                loaded.users -= 1
                self._make_room()

    def _current(self, name: str) -> Loaded:
        path = self.paths().get(name)
        try:
            if path is None:
                raise BundleError("gone")
            bundle = Bundle.load(path)
        except BundleError as error:
            with self._lock:
                self._retire(name)
            raise _gone(name) from error
        with self._lock:
            loaded = self._loaded.get(name)
            if loaded is not None and loaded.manifest == bundle.manifest:
                loaded.users += 1
                self._loaded.move_to_end(name)
                return loaded
            self._retire(name)
        loaded = Loaded(name, Translator(bundle, **self._settings.options), users=1)
        with self._lock:
            self._loaded[name] = loaded
            self._make_room()
        return loaded

    def _make_room(self) -> None:
        """Close what is too many and not in use; the lock is held."""
        for name in list(self._loaded)[: max(0, len(self._loaded) - self._settings.limits.models)]:
            if self._loaded[name].users == 0:
                self._close(self._loaded.pop(name))

    def _retire(self, name: str) -> None:
        """Forget a model that is another now; the lock is held. Who is at work with it keeps it until the end."""
        loaded = self._loaded.pop(name, None)
        if loaded is not None and loaded.users == 0:
            self._close(loaded)

    def _close(self, loaded: Loaded) -> None:
        self._closed(loaded)
        loaded.translator.close()

    def loaded(self) -> int:
        """Return how many models are in memory."""
        return len(self._loaded)

    def close(self) -> None:
        """Close all models; nobody may be at work with one."""
        with self._lock:
            for name in list(self._loaded):
                self._close(self._loaded.pop(name))


def _gone(name: str) -> Problem:
    return Problem(
        503, "model_gone", f"the model {name!r} was removed or damaged while this server ran; choose another"
    )
