"""Numbers in sentences."""

from ccscale.wording import agree, counted


def test_one_and_many():
    assert [counted(number, "image") for number in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert counted(3, "class", "classes") == "3 classes"
    assert [agree(number, "is", "are") for number in (0, 1, 2)] == ["are", "is", "are"]
