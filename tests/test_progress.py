"""What is said of the progress must not end the work."""

from conftest import python


def test_nobody_reads_any_more():
    """As where a Ctrl-C has ended the `tee` behind a command, which is about to save."""
    code = (
        "import os\n"
        "reading, writing = os.pipe()\n"
        "os.dup2(writing, 2), os.close(writing), os.close(reading)\n"
        "from ccscale.progress import Meter, say\n"
        "say('saving'), say('saved')\n"
        "with Meter('writing', 2, 'files', show=True) as meter: meter.advance(2)\n"
        "print('to the end')\n"
    )
    assert python("-c", code).stdout == "to the end\n"
