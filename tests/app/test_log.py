"""RUN/log.txt."""

import sys
from pathlib import Path
from typing import Any

import pytest

from unlabeled.app.cli import log, signals

SHORT = ["budget.epochs=null", "budget.batches=3"]


def lines(folder: Path) -> list[str]:
    return (folder / log.NAME).read_text().splitlines()


def test_lines_wait_for_their_folder_and_go_there_once(tmp_path: Path, capsys: Any) -> None:
    for turn in range(2):
        with log.recorded():
            print(f"before {turn}")
            log.write_to(tmp_path)
            log.write_to(tmp_path / "elsewhere")
            sys.stderr.write("half ")
            print("whole", file=sys.stderr)
        print("outside")
    told = lines(tmp_path)
    assert [line[:3] for line in told if line.startswith("---")] == ["---"] * 2
    assert [line for line in told if line[:3] != "---"] == [
        "before 0", "half whole", "before 1", "half whole"]  # fmt: skip
    assert capsys.readouterr().out == "before 0\noutside\nbefore 1\noutside\n"


def test_of_what_a_bar_draws_over_itself_the_last_is_a_line(tmp_path: Path) -> None:
    with log.recorded():
        log.write_to(tmp_path)
        for done in range(1000):
            sys.stderr.write(f"\r{done}%|###")
        sys.stderr.write("\r          \r")
        sys.stderr.write("\x1b[31mred\x1b[0m\r\n")
        assert len(sys.stderr.partial) < 100  # type: ignore[attr-defined]
    assert lines(tmp_path)[1:] == ["red"]


def test_no_password_is_in_the_log(tmp_path: Path) -> None:
    with log.recorded():
        log.write_to(tmp_path)
        print("note: mysql://user:geheim@host/db")
    assert lines(tmp_path)[1:] == ["note: mysql://user:***@host/db"]


def test_a_folder_that_takes_no_log_harms_nothing(tmp_path: Path, capsys: Any) -> None:
    with log.recorded():
        log.write_to(tmp_path / "missing")
        print("said")
    assert capsys.readouterr().out == "said\n"


def wrong(folder: Path) -> None:
    log.write_to(folder)
    print(1 / 0)


def test_a_traceback_that_nobody_catches_is_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), log.recorded():
        wrong(tmp_path)
    assert lines(tmp_path)[-1].startswith("ZeroDivisionError")


def stopped(folder: Path) -> None:
    log.write_to(folder)
    raise signals.Stopped(143)


def test_a_stop_is_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(SystemExit), log.recorded():
        stopped(tmp_path)
    assert lines(tmp_path)[1:] == ["stopped"] and not isinstance(sys.stdout, log.Tee)


def test_a_run_and_its_evaluation_hold_what_was_printed(program: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = program("train", *SHORT, f"run={run}")
    assert lines(run)[1:] == (said.err + said.out).splitlines() and "next " in lines(run)[-1]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert program("train", f"resume={run}", "model.latent_dim=3").status == 1  # it is refused: nothing changes
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    more = program("train", f"resume={run}", "budget.batches=4")
    assert more.status == 0 and sum(line.startswith("---") for line in lines(run)) == 2
    assert "4 batches in" in "\n".join(lines(run))
    few = ["evaluation.extractor=none", "evaluation.pictures=4", "evaluation=common"]
    for _ in range(2):
        evaluated = program("evaluate", f"checkpoint={run}", *few)
    assert lines(run / "evaluation")[1:] == (evaluated.err + evaluated.out).splitlines()  # anew each time


def test_a_run_that_fails_before_it_begins_has_the_line(program: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = program("train", "~callbacks.budget", f"run={run}")
    assert lines(run)[1:] == [result.complaint]
