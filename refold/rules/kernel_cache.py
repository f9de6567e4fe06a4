"""Keeps compiled kernels between processes: generated source in a cache folder, with numba's compiled files beside it.

The cache is checked before it is used: the folder must be writable by this user only, the name of a source is the hash
of its content, and numba's files must have the sums recorded when a kernel was last loaded. numba runs these files
unchecked, so a flipped bit could end the process or give wrong rows. Whatever fails a check is generated again; several
processes may do so at once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def compiled(source: str) -> Callable[..., int]:
    """The function `fold` of a generated module, loaded where it was compiled before.

    Raises:
        NumbaError: numba refuses the source.
    """
    from numba.core.errors import NumbaError  # noqa: PLC0415  # 0.4 s

    try:
        path = _written(source)
        _remove_unsound(path)
        fold = _load_file(path)
        _keep_sums(path)
        return fold
    except NumbaError:
        raise
    except Exception:  # the cache is a convenience: whatever is wrong with it, compiling without it is right
        scope: dict[str, object] = {"__name__": "refold_rule"}
        exec(compile(source.replace("cache=True", "cache=False"), "<refold rule>", "exec"), scope)
        fold_in_memory = scope["fold"]
        assert callable(fold_in_memory)
        return fold_in_memory


def is_kept(source: str) -> bool:
    """Whether the cache folder has an undamaged compiled kernel of this source."""
    path = kernel_file(source)
    try:
        return _is_own(path.parent) and path.is_file() and _sums(path) != b"" and _is_sound(path)
    except OSError:
        return False


def kernel_file(source: str) -> Path:
    """The path of the generated source in the cache folder, whether it exists or not."""
    return cache_folder() / f"refold_rule_{hashlib.sha256(source.encode()).hexdigest()[:32]}.py"


def cache_folder() -> Path:
    """The folder of generated kernels: below NUMBA_CACHE_DIR where it is set, else in the user's own cache folder.

    Never a folder shared between users, because numba's files are trusted when they are loaded.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen) / "refold"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "refold" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "refold"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refold"


def unusable_because(folder: Path) -> str | None:
    """Why the cache folder cannot be used, as the end of a sentence; None where it can be used or created."""
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    if nearest == folder and not _is_own(folder):
        return f"{folder} belongs to another user, or others may write to it"
    return None if os.access(nearest, os.W_OK) else f"{nearest} cannot be written"


def _is_own(folder: Path) -> bool:
    """Whether only this user can write to a folder."""
    status = folder.stat()
    return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)


def _written(source: str) -> Path:
    """The file of this source in the cache folder. Raises OSError where it cannot be written."""
    data, path = source.encode(), kernel_file(source)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _is_own(path.parent):
        raise PermissionError(path.parent)
    if not path.exists() or path.read_bytes() != data:
        _put(path, data)
    return path


def _put(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(temporary).replace(path)


def _load_file(path: Path) -> Callable[..., int]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # numba's files name the module they belong to, and cannot be loaded while it is not there
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    fold: Callable[..., int] = module.fold
    return fold


def _files(path: Path) -> list[Path]:
    """numba's files of a generated source, in the one folder below it where numba writes them."""
    root = Path(os.environ.get("NUMBA_CACHE_DIR") or path.parent)
    return sorted([*root.glob(f"*/{path.stem}.*.nbi"), *root.glob(f"*/{path.stem}.*.nbc")])


def _sums(path: Path) -> bytes:
    lines = (f"{hashlib.sha256(file.read_bytes()).hexdigest()} {file.name}\n" for file in _files(path))
    return "".join(lines).encode()


def _is_sound(path: Path) -> bool:
    kept = path.with_suffix(".sums")
    return _sums(path) == (kept.read_bytes() if kept.exists() else b"")


def _remove_unsound(path: Path) -> None:
    """Remove numba's files unless they have the recorded sums; numba then compiles again."""
    if not _is_sound(path):
        for file in _files(path):
            file.unlink(missing_ok=True)


def _keep_sums(path: Path) -> None:
    """Record the sums of numba's files; if another process wrote in between, they differ and all is compiled again."""
    if not _is_sound(path):
        _put(path.with_suffix(".sums"), _sums(path))
