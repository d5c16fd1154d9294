"""Endings of the names of images that can be decoded, and how each is written in a shard.

What an image is follows from its bytes; its name's ending says only that it is one.
"""

# In the order of preference, where a sample of a tar has several.
EXTENSIONS = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "jpg"),
    "png": "png",
    "webp": "webp",
    "avif": "avif",
    "bmp": "bmp",
    "gif": "gif",
    **dict.fromkeys(("tif", "tiff"), "tif"),
    **dict.fromkeys(("ppm", "pgm", "pbm", "pnm"), "ppm"),
    **dict.fromkeys(("heic", "heif", "hif"), "heic"),  # by the extra `heif`
    "jxl": "jxl",  # by the extra `jxl`
    **dict.fromkeys(("dcm", "dicom"), "dcm"),  # by the extra `dicom`
}


def extension_of(name: str) -> str:
    """Return what follows the last dot of a file's name; "" if there is none, or only a first one."""
    before, _, ending = name.rpartition("/")[2].rpartition(".")
    return ending if before else ""


def is_image(name: str) -> bool:
    """Return whether a file is an image, by its extension."""
    return "." in name and name.rpartition(".")[2].lower() in EXTENSIONS
