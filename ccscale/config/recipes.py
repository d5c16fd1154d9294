"""The configs that come with the package: ``ccscale train folder`` needs no checkout of the sources."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "configs"


def recipes() -> dict[str, str]:
    """Return the name of every recipe and what it is for, in a line."""
    return {path.stem: _about(path) for path in sorted(FOLDER.glob("*.yaml"), key=lambda path: path.stem)}


def find_recipe(name: str) -> Path | None:
    """Return the config of the recipe `name`, if there is one."""
    path = FOLDER / f"{name}.yaml"
    return path if Path(name).name == name and path.is_file() else None


def _about(path: Path) -> str:
    with open(path, encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()
