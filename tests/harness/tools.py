"""Runs the scripts of tools/, each as it is run from a shell, but without the seconds of the imports."""

import atexit
import contextlib
import os
import runpy
import sys
import tempfile
import traceback
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest import mock

from lives import server, take_environment

TOOLS = Path(__file__).parents[2] / "tools"


@dataclass(frozen=True)
class Done:
    """What a script came to."""

    code: int
    out: str
    err: str


def run_tool(script: str | Path, *arguments: object) -> Done:
    """Run a script, by its path under tools/ or a whole one, in a process of its own.

    It is a copy of one that has imported what training needs.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = server().Process(target=_become, args=(script, arguments, dict(os.environ), folder))
        process.start()
        process.join()
        return Done(process.exitcode, *(Path(folder, name).read_text() for name in ("out", "err")))


def run_tool_here(script: str, *arguments: object) -> Done:
    """Run a script in this process; what it starts are copies of the process that the tests' own ranks are."""
    with contextlib.redirect_stdout(StringIO()) as out, contextlib.redirect_stderr(StringIO()) as err:
        code = _call(script, arguments)
    return Done(code, out.getvalue(), err.getvalue())


def _call(script: str | Path, arguments: tuple[object, ...]) -> int:
    path = TOOLS / script
    file = path / "__main__.py" if path.is_dir() else path
    argv = [str(path), *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), mock.patch.object(sys, "path", [str(file.parent), *sys.path]):
        try:
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as exit:
            if isinstance(exit.code, str):
                print(exit.code, file=sys.stderr)
            return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    return 0


def _become(
    script: str | Path, arguments: tuple[object, ...], environment: dict[str, str], folder: str
) -> None:
    os.setsid()
    take_environment(environment)
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY), number)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    code = 1
    try:
        code = _call(script, arguments)
        atexit._run_exitfuncs()  # a command of ccscale leaves there
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)
