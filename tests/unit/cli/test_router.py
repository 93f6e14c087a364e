import json
import subprocess
import sys

PROMPTS = "".join(
    json.dumps({"id": f"p{number}", "prompt": prompt}) + "\n"
    for number, prompt in enumerate(["set an alarm for six", "what's the balance of my savings account"])
)


def quartet(*arguments: str, stdin: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "router", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_scores_come_as_csv_in_input_order() -> None:
    done = quartet("score", stdin=PROMPTS)
    header, *rows = done.stdout.splitlines()
    assert header == "id,score"
    assert [row.split(",")[0] for row in rows] == ["p0", "p1"]
    assert all(0 <= float(row.split(",")[1]) <= 1 for row in rows)


def test_intents_are_told_with_the_meaning_of_the_prompt() -> None:
    done = quartet("intent", "--labels", "clinc150", stdin=PROMPTS)
    assert done.stdout.splitlines() == ["id,intent", "p0,alarm", "p1,balance"]


def test_a_bad_line_is_named_after_what_came_before_it() -> None:
    done = quartet("score", stdin=PROMPTS + "not json\n")
    assert done.returncode == 1
    assert "Line 3 is not JSON" in done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_an_unknown_label_set_names_those_there_are() -> None:
    done = quartet("intent", "--labels", "colours", stdin=PROMPTS)
    assert done.returncode == 1
    assert "clinc150" in done.stderr
