"""Whether a checkpoint's pickles may be loaded: loading one can run any code that it holds."""

from pathlib import Path

from ccscale.checkpoint import permissions
from ccscale.errors import InputError


def check_trust(folder: Path, run: Path) -> None:
    """Check that a checkpoint belongs to its run, and that nobody else could have written it.

    Raises
    ------
    InputError
        That names what is wrong: a symbolic link that leads out of the run's folder, an entry that belongs to
        another user (root's are trusted), or that its group or everybody can write.
    """
    home, wrong = run.resolve(), []
    for path in (folder, *sorted(folder.rglob("*"))):
        name = path.relative_to(folder.parent)
        if not path.resolve().is_relative_to(home):
            raise InputError(f"{name} is a link out of the run's folder, to {path.resolve()}")
        try:
            facts = path.stat()
        except OSError as error:
            raise InputError(f"{name} cannot be checked ({error.strerror})") from None
        if (why := permissions.doubt(facts)) is not None:
            wrong.append(f"{name} ({why})")
    if wrong:
        shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise InputError(
            f"{folder.name} is not trusted because other users can write {shown}. If you trust its "
            "contents, run chmod -R go-w or chown; where that has no effect, copy the run to "
            f"{permissions.way_out()}"
        )
