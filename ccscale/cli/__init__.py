"""The ``ccscale`` command: a verb a file, all in the table of `verbs`.

Standard output holds results, standard error everything else; how a command ends stands in `exit_codes`.
"""

from ccscale.cli.main import entry

__all__ = ["entry"]
