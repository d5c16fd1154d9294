"""Numbers and names in sentences."""

from ccscale.wording import agree, class_name, counted


def test_one_and_many():
    assert [counted(number, "image") for number in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert counted(3, "class", "classes") == "3 classes"
    assert [agree(number, "is", "are") for number in (0, 1, 2)] == ["are", "is", "are"]


def test_a_class_has_a_name_or_its_number():
    assert [class_name(("cat", "dog"), label) for label in (1, 2)] == ["dog", "2"]
