"""Loading handlers: from the plan's folder first, and with a hint for every mistake."""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.adapters.embedded.handlers import load_handlers
from runner.errors import PreflightRefused

EVENT = "app/x"
WORKER = "def sync(event):\n    return event['name']\n"


@pytest.fixture(autouse=True)
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo the test's imports."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def folder_with(path: Path, **modules: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in modules.items():
        (path / f"{name}.py").write_text(text, encoding="utf-8")
    return path


def refusal(names: dict[str, str], folder: Path) -> tuple[str, str]:
    with pytest.raises(PreflightRefused) as caught:
        load_handlers(names, folder)
    assert caught.value.hint is not None
    return str(caught.value), caught.value.hint


class TestFinding:
    def test_a_handler_comes_from_the_plans_folder(self, tmp_path: Path) -> None:
        folder_with(tmp_path, worker=WORKER)
        handlers = load_handlers({EVENT: "worker:sync", "app/y": "worker:sync"}, tmp_path)
        assert list(handlers) == [EVENT, "app/y"]
        assert handlers[EVENT]({"name": "it"}) == "it"

    def test_a_handler_may_be_in_a_package_of_the_folder(self, tmp_path: Path) -> None:
        folder_with(tmp_path / "jobs", __init__="", worker=WORKER)
        assert load_handlers({EVENT: "jobs.worker:sync"}, tmp_path)[EVENT]({"name": "it"}) == "it"

    def test_each_of_two_threads_gets_the_module_of_its_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As of an agent's calls at the same time: one found the module of the other's folder."""
        found: dict[str, object] = {}

        def load(name: str) -> None:
            found[name] = load_handlers({EVENT: "worker:sync"}, tmp_path / name)[EVENT]({})

        other = threading.Thread(target=load, args=("b",))

        def meanwhile() -> None:
            """While `a` is imported, let the other thread get as far as it can."""
            other.start()
            other.join(0.2)

        monkeypatch.setattr(builtins, "meanwhile", meanwhile, raising=False)
        folder_with(tmp_path / "a", worker="meanwhile()\ndef sync(event):\n    return 'a'\n")
        folder_with(tmp_path / "b", worker="def sync(event):\n    return 'b'\n")
        load("a")
        other.join()
        assert found == {"a": "a", "b": "b"}

    def test_a_handler_may_be_installed(self, tmp_path: Path) -> None:
        from json import dumps

        assert load_handlers({EVENT: "json:dumps"}, tmp_path) == {EVENT: dumps}

    def test_a_folder_of_data_does_not_hide_an_installed_module(self, tmp_path: Path) -> None:
        from json import dumps

        (tmp_path / "json").mkdir()
        assert load_handlers({EVENT: "json:dumps"}, tmp_path) == {EVENT: dumps}

    def test_a_worker_imports_its_siblings_when_it_loads_and_when_it_runs(
        self, tmp_path: Path
    ) -> None:
        lazy = "import early\n\ndef sync(event):\n    import late\n    return early.N + late.N\n"
        folder_with(tmp_path, worker_of_siblings=lazy, early="N = 1\n", late="N = 2\n")
        handler = load_handlers({EVENT: "worker_of_siblings:sync"}, tmp_path)[EVENT]
        assert handler({}) == 3

    def test_the_folder_is_left_last_on_the_path_and_once(self, tmp_path: Path) -> None:
        """So that its files never come before an installed module that is imported later."""
        folder_with(tmp_path, worker=WORKER)
        before = list(sys.path)
        load_handlers({EVENT: "worker:sync"}, tmp_path)
        load_handlers({EVENT: "worker:sync"}, tmp_path)
        assert sys.path == [*before, str(tmp_path)]

    def test_a_module_is_loaded_once(self, tmp_path: Path) -> None:
        folder_with(tmp_path, worker=WORKER)
        once = load_handlers({EVENT: "worker:sync"}, tmp_path)
        assert load_handlers({EVENT: "worker:sync"}, tmp_path) == once

    def test_each_plan_gets_the_module_of_its_own_folder(self, tmp_path: Path) -> None:
        one = folder_with(tmp_path / "one", worker="def sync(event): return 1\n")
        two = folder_with(tmp_path / "two", worker="def sync(event): return 2\n")
        for folder, result in ((one, 1), (two, 2), (one, 1)):
            assert load_handlers({EVENT: "worker:sync"}, folder)[EVENT]({}) == result


class TestMistakes:
    @pytest.mark.parametrize(
        "name", ["", "worker", "worker:", ":sync", "my-worker:sync", "./worker:sync", "a:b:c"]
    )
    def test_a_malformed_name(self, tmp_path: Path, name: str) -> None:
        message, hint = refusal({EVENT: name}, tmp_path)
        assert message == f"the handler of `{EVENT}` is `{name}`, which does not name a function"
        assert hint == "write it as `module:function`"

    @pytest.mark.parametrize("name", ["wroker", "worker.py"])
    def test_a_missing_module_names_the_folder_and_what_is_like_it(
        self, tmp_path: Path, name: str
    ) -> None:
        folder_with(tmp_path, worker=WORKER)
        message, hint = refusal({EVENT: f"{name}:sync"}, tmp_path)
        assert message == f"there is no module `{name}` in {tmp_path}, and none is installed"
        assert hint == "did you mean `worker`?"

    def test_a_missing_module_like_no_other(self, tmp_path: Path) -> None:
        _, hint = refusal({EVENT: "absent:sync"}, tmp_path)
        assert hint == "a module is found beside the plan, or where it is installed"

    def test_a_missing_function_and_what_is_like_it(self, tmp_path: Path) -> None:
        folder_with(tmp_path, worker=WORKER)
        message, hint = refusal({EVENT: "worker:snyc"}, tmp_path)
        assert message == f"the module `worker` has no `snyc`, the handler of `{EVENT}`"
        assert hint == "did you mean `sync`?"

    def test_a_missing_function_like_no_other(self, tmp_path: Path) -> None:
        folder_with(tmp_path, worker=WORKER)
        _, hint = refusal({EVENT: "worker:absent"}, tmp_path)
        assert hint == f"define it in {tmp_path / 'worker.py'}"

    def test_an_object_that_is_no_function(self, tmp_path: Path) -> None:
        folder_with(tmp_path, worker="sync = 5\n")
        message, hint = refusal({EVENT: "worker:sync"}, tmp_path)
        assert message == f"`worker:sync`, the handler of `{EVENT}`, is not a function: int"
        assert hint == "name a function that takes one event"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("raise ValueError('no database')", "ValueError: no database"),
            ("raise RuntimeError", "RuntimeError"),
            ("import sys; sys.exit('not installed')", "SystemExit: not installed"),
            ("raise BaseException('a panic')", "BaseException: a panic"),
            ("import absent_dependency", "ModuleNotFoundError: No module named 'absent_depend"),
            ("def", "SyntaxError: "),
        ],
    )
    def test_a_module_that_cannot_be_imported_says_what_it_raised(
        self, tmp_path: Path, text: str, words: str
    ) -> None:
        folder_with(tmp_path, worker=text)
        message, _ = refusal({EVENT: "worker:sync"}, tmp_path)
        assert message.startswith(f"the module `worker` cannot be imported: {words}")
        assert "\n" not in message

    @pytest.mark.parametrize("name", ["json", "sys", "httpx", "runner"])
    def test_a_module_with_the_name_of_an_installed_one_in_use(
        self, tmp_path: Path, name: str
    ) -> None:
        folder_with(tmp_path, **{name: WORKER})
        message, hint = refusal({EVENT: f"{name}:sync"}, tmp_path)
        expected = (
            f"the module `{name}` in {tmp_path} has the name of an installed module that is in use"
        )
        assert message == expected
        assert hint == "rename the module, and the handlers that name it"
