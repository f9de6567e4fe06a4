"""The source tree of a git ref in a temporary folder: read from the repository's own objects, and nothing else.

No hook runs, nothing is fetched, and neither the repository's index nor its working tree is touched. What is done
with the tree is `refold.diff.remote`.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from refold.errors import FixInput, NotFound

_SETTINGS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false")
_ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ALLOW_PROTOCOL": "none",  # a partial clone would fetch what it lacks
    "GIT_LFS_SKIP_SMUDGE": "1",
}
_REFS_SHOWN = 12


@dataclass(frozen=True)
class Commit:
    """A commit of the repository that contains a project.

    Attributes:
        ref: as it was asked for.
        sha: the commit it names.
        repository: the top folder of the repository's working tree.
        project: the project's folder below it.
    """

    ref: str
    sha: str
    repository: Path
    project: Path

    @property
    def label(self) -> str:
        """The ref and the commit, for people."""
        return f"{self.ref} ({self.sha[:10]})"


def find_commit(root: Path, ref: str) -> Commit:
    """The commit that a ref names in the repository of a project's folder.

    Raises:
        FixInput: the folder is not in a git repository, or git is not installed.
        NotFound: the repository has no such ref; those it has are named.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    if top.returncode:
        raise FixInput(
            f"Expected a git repository at {root} or above it, to find the ref {ref!r} in; git says: {_said(top)}",
            remedy="Name a module instead, `--against package.module`, or run in a clone.",
        )
    repository = Path(top.stdout.rstrip("\n")).resolve()
    found = _git(repository, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}") if _is_ref(ref) else None
    if found is None or found.returncode:
        raise NotFound(
            f"Expected a branch, tag or commit of {repository}, found {ref!r}; it has {_refs(repository)}.",
            remedy=_how_to_fetch(repository, ref),
        )
    return Commit(ref, found.stdout.strip(), repository, root.resolve().relative_to(repository))


def write_tree(commit: Commit, folder: Path) -> Path:
    """Write all files of a commit below a folder, and return the project's folder there.

    Raises FixInput where the repository lacks some of them, or where the project is not in the commit.
    """
    tree, index = folder / "tree", folder / "index"
    tree.mkdir()
    for arguments in (
        ("read-tree", "--no-sparse-checkout", commit.sha),
        ("checkout-index", "--all", "--quiet", f"--prefix={tree}{os.sep}"),
    ):
        done = _git(commit.repository, *arguments, index=index)
        if done.returncode:
            raise FixInput(
                f"The files of {commit.label} cannot be read from {commit.repository}; git says: {_said(done)}",
                remedy=_how_to_fetch(commit.repository, commit.ref),
            )
    if not (tree / commit.project / "pyproject.toml").is_file():
        raise FixInput(
            f"Expected a project at {commit.project.as_posix()}/pyproject.toml in {commit.label}, found none.",
            remedy="Compare with a later ref.",
        )
    return tree / commit.project


def _is_ref(text: str) -> bool:
    """Whether a text can name a commit; one that git would take as an option cannot."""
    return bool(text) and not text.startswith("-") and "\0" not in text


def _refs(repository: Path) -> str:
    listed = _git(repository, "for-each-ref", "--format=%(refname:short)", "--sort=-creatordate")
    names = listed.stdout.split("\n")[:-1]
    more = f" and {len(names) - _REFS_SHOWN} more" if len(names) > _REFS_SHOWN else ""
    return (", ".join(names[:_REFS_SHOWN]) or "no refs") + more


def _how_to_fetch(repository: Path, ref: str) -> str:
    shallow = _git(repository, "rev-parse", "--is-shallow-repository").stdout.strip() == "true"
    branch = ref.removeprefix("origin/")
    if shallow:
        return (
            f"This clone is shallow, so it may lack it: run `git fetch --depth=1 origin {branch}` and compare with "
            "FETCH_HEAD, or clone with all history (actions/checkout with fetch-depth: 0)."
        )
    return f"If it is on the remote: `git fetch origin {branch}`, then compare with origin/{branch} or FETCH_HEAD."


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stderr.split()) or f"nothing, with exit code {done.returncode}."


def _git(folder: Path, *arguments: str, index: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run git on a repository, whatever a hook that runs us has put into the environment."""
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("GIT_")}
    environment |= _ENVIRONMENT | ({"GIT_INDEX_FILE": str(index)} if index else {})
    try:
        return subprocess.run(
            ["git", *_SETTINGS, "-C", str(folder), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise FixInput(f"Expected git to run, found: {error}.", remedy="Install git, or name a module.") from error
