"""The lock holds what pyproject.toml asks for, on every Python, and nothing that an index could exchange."""

from packaging.requirements import Requirement

from tests.lockfile import LOCK, PYTHONS, asked_for, canonical, header, lines, pins, project, wanted


def environment(python: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
        "extra": "",
    }


def test_it_was_made_of_pyproject_as_it_is() -> None:
    assert LOCK.read_text("utf-8").startswith(header()), "pyproject.toml has changed since: run `make lock`"


def test_another_dependency_asks_for_another_lock() -> None:
    changed = project()
    changed["project"]["optional-dependencies"]["dev"].append("another>=1")
    assert asked_for(changed) != asked_for()


def test_each_line_is_one_version_with_hashes_and_no_address() -> None:
    text = LOCK.read_text("utf-8")
    assert len(pins(text)) == len(list(lines(text))) > 100
    assert "://" not in text
    assert "--index-url" not in text


def test_all_that_is_asked_for_is_in_it_on_every_python() -> None:
    found = pins(LOCK.read_text("utf-8"))
    asked = [Requirement(text) for text in project()["project"]["dependencies"]] + list(wanted("dev"))
    assert len(asked) > 25
    for python in PYTHONS:
        there = environment(python)
        versions = {pin.name: pin.version for pin in found if pin.is_for(there)}
        for requirement in asked:
            if requirement.marker is None or requirement.marker.evaluate(there):
                version = versions.get(canonical(requirement.name))
                assert version is not None, f"{requirement} is missing on {python}"
                assert requirement.specifier.contains(version), f"{requirement} is {version} on {python}"


def test_no_package_is_in_it_twice_on_one_python() -> None:
    found = pins(LOCK.read_text("utf-8"))
    for python in PYTHONS:
        names = [pin.name for pin in found if pin.is_for(environment(python))]
        assert len(names) == len(set(names))
