"""The Dockerfile copies what exists, from the Airflow that everything else here is tested with."""

from __future__ import annotations

import re

from composition import FOLDER, ROOT, airflow_services, dockerfile, is_sent_to_docker


def test_it_builds_from_the_official_image_of_the_tested_airflow() -> None:
    arguments = [rest for instruction, rest in dockerfile() if instruction in ("ARG", "FROM")]
    tested = re.search(r"(?m)^apache-airflow==(\S+)$", (ROOT / "requirements/dev.in").read_text())

    assert tested is not None
    assert arguments == [
        f"AIRFLOW_VERSION={tested[1]}",
        "apache/airflow:${AIRFLOW_VERSION} AS wheel",
        "apache/airflow:${AIRFLOW_VERSION}",
        "AIRFLOW_VERSION",
    ]
    assert {s["image"].partition(":")[2] for s in airflow_services().values()} == {tested[1]}


def test_what_it_copies_exists_and_is_sent_to_docker() -> None:
    copied = [path for sources, _ in copies() for path in sources]

    assert len(copied) == 5
    for path in copied:
        assert (ROOT / path).exists()
        assert is_sent_to_docker(path)


def test_nothing_else_is_sent_to_docker() -> None:
    copied = {path for sources, _ in copies() for path in sources}
    present = {path.name for path in ROOT.iterdir()}

    assert {name for name in present if is_sent_to_docker(name)} == copied
    assert is_sent_to_docker("airflow_claim_dispatch/core/action.py")
    assert not is_sent_to_docker("airflow_claim_dispatch/core/__pycache__/action.pyc")


def test_the_files_that_the_wheel_is_built_from_are_copied() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    named = "".join(re.findall(r"(?m)^(?:readme|license-files|packages) = .*", project))
    (first, _), (second, _), _ = copies()

    assert {*first, *second} == {"pyproject.toml", *re.findall(r'"([^"]+)"', named)}


def test_the_build_context_of_the_compose_file_is_the_root() -> None:
    for service in airflow_services().values():
        context = (FOLDER / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]).is_file()


def copies() -> list[tuple[list[str], str]]:
    """Return the sources and the target of every COPY from the context."""
    found = []
    for instruction, rest in dockerfile():
        if instruction == "COPY":
            *sources, target = (word for word in rest.split() if not word.startswith("--"))
            found.append((sources, target))
    return found
