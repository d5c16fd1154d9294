"""What `import ccscale` gives is documented as numpydoc has it: parameters with types, and what is returned."""

import inspect

import pytest

import ccscale

validate = pytest.importorskip("numpydoc.validate").validate

OFF = {
    "ES01": "a summary of one line is enough where it says all",
    "EX01": "examples stand in the guides, where they are part of something whole",
    "SA01": "the API reference is one page: what belongs together stands together",
}


def public_names() -> list[str]:
    """Every name that ccscale exports, and the public methods and properties that its classes define."""
    names = []
    for name in ccscale.__all__:
        names.append(f"ccscale.{name}")
        thing = getattr(ccscale, name)
        if inspect.isclass(thing):
            names += [
                f"ccscale.{name}.{member}"
                for member, value in vars(thing).items()
                if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
            ]
    return names


@pytest.mark.parametrize("name", public_names())
def test_numpydoc(name):
    wrong = {code: message for code, message in validate(name)["errors"] if code not in OFF}
    assert not wrong


def test_defaults_are_those_of_the_signature():
    for name in public_names():
        thing = ccscale
        for part in name.split(".")[1:]:
            thing = getattr(thing, part)
        doc = inspect.getdoc(thing) or ""
        if not callable(thing) or "Parameters\n---" not in doc:
            continue
        for parameter in inspect.signature(thing).parameters.values():
            plain = isinstance(parameter.default, str | int | float) and not isinstance(
                parameter.default, type
            )
            told = [line for line in doc.splitlines() if line.startswith(f"{parameter.name} : ")]
            if plain and told:
                ((_, _, default),) = [line.partition(", default ") for line in told]
                assert eval(default) == parameter.default, f"{name}: {told[0]}"
