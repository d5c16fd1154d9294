"""Names of classes: from text files, from what the user lists, and from WordNet's tables beside the images.

LOC_synset_mapping.txt   n01440764 tench, Tinca tinca     (Kaggle's copy of ImageNet)
words.txt                n01440764<TAB>tench, Tinca tinca  (WordNet's, Tiny-ImageNet's)
"""

import os
import re

from ccscale.errors import InputError

WNID = re.compile(r"n[0-9]{8}")
SYNSET_TABLES = ("LOC_synset_mapping.txt", "words.txt")


def text_lines(path: str) -> list[str]:
    """Return the lines of a text file without the white space around them and without empty ones.

    Raises
    ------
    InputError
        If the file is missing or is no text in UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return [line for line in map(str.strip, file) if line]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text: convert it, or give another file") from None


def listed_classes(text: str) -> list[str]:
    """Return the classes of ``--classes``: names separated by commas, or a text file with one per line.

    Raises
    ------
    InputError
        If there is no such file, nothing is listed, or a name is there twice.
    """
    is_file = os.path.isfile(text)
    if not is_file and "," not in text and (os.sep in text or text.endswith(".txt")):
        raise InputError(f"--classes: there is no file {text}; give a text file with one class per line")
    names = text_lines(text) if is_file else [name.strip() for name in text.split(",")]
    if not names or "" in names:
        raise InputError(
            f"--classes {text!r} has an empty name: separate names by commas, or give a text file with "
            "one per line"
        )
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InputError(f"--classes lists {twice[0]} twice: list each class once")
    return names


def synset_names(root: str) -> dict[str, str]:
    """Return wnid to first synonym from the first of the `SYNSET_TABLES` that lies in a folder; {} without one."""
    for table in SYNSET_TABLES:
        path = os.path.join(root, table)
        if os.path.isfile(path):
            rows = (line.split(None, 1) for line in text_lines(path))
            return {row[0]: row[1].split(",")[0].strip() for row in rows if len(row) == 2}
    return {}
