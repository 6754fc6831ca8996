import io
import json

from rich.console import Console

from r1reward.reporting.runs import load_runs
from r1reward.reporting.summary import Estimate, summarise
from r1reward.reporting.table import columns, footnotes, markdown, points, print_table, rows, share, to_json
from tests.reporting.synthetic import write_run


def test_cells_give_per_cent_and_points_with_their_intervals():
    assert share(Estimate(0.719, 0.68, 0.7549, 3, "seeds"), 3).line() == "71.9 [68.0, 75.5]"
    assert share(Estimate(0.5, 0.4, 0.6, 1, "items"), 1).line() == "50.0† [40.0, 60.0]"
    assert share(Estimate(0.5, 0.4, 0.6, 2, "seeds"), 3).line() == "50.0 [40.0, 60.0] (n=2)"
    assert share(None, 3).line() == "–"
    assert points(Estimate(-0.02, -0.05, 0.01, 3, "seeds"), 3, True).line() == "−2.0 [−5.0, +1.0] not separated"
    assert points(Estimate(0.02, 0.01, 0.03, 3, "seeds"), 3, True).line() == "+2.0 [+1.0, +3.0] interval above 0"
    assert points(Estimate(-0.0001, None, None, 1, "none"), 1, True).line() == "0.0 one seed, no interval"


def test_every_row_has_every_column_and_states_its_seeds(study):
    comparison = summarise(load_runs(study))
    assert {len(row) for row in rows(comparison)} == {len(columns(comparison))}
    by_arm = {row[0].text: dict(zip(columns(comparison), row, strict=True)) for row in rows(comparison)}
    assert by_arm["full"]["seeds"].line() == "n=3 (0, 1, 2)"
    assert by_arm["no_pre_clip"]["collapsed runs"].text == "2 of 3"
    # full: mean of 78, 81, 79; cold start: 58 with one seed.
    assert by_arm["full"]["accuracy after, %"].text == "79.3"
    assert by_arm["cold_start_only"]["accuracy after, %"].text == "58.0†"


def test_markdown_escapes_and_has_one_line_per_arm(tmp_path):
    write_run(tmp_path / "a", arm="clip=a|b", seed=0)
    write_run(tmp_path / "b", arm="<b>", seed=0)
    text = markdown(summarise(load_runs(tmp_path)))
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == 4 and "clip=a\\|b" in table[2] and "&lt;b>" in table[3]


def test_json_is_strict_and_keeps_shares(study):
    def no_constants(name):
        raise AssertionError(f"{name} is no JSON")

    document = json.loads(to_json(summarise(load_runs(study))), parse_constant=no_constants)
    full = document["arms"][0]
    assert document["baseline"] == full["arm"] == "full" and full["seeds"] == [0, 1, 2]
    assert round(full["after"]["mean"], 4) == 0.7933 and full["difference"] is None
    assert document["unfinished"] == ["full_3"] and document["config_differences"]["algorithm.filter"]["no_filter"] == "false"


def test_footnotes_name_what_is_left_out(study):
    notes = " ".join(footnotes(summarise(load_runs(study))))
    assert "1 run not finished" in notes and "full_3" in notes and "† one seed" in notes and "not separated" in notes


def test_the_terminal_shows_arms_whose_names_look_like_markup(tmp_path):
    write_run(tmp_path / "a", arm="[red]x", seed=0)
    stream = io.StringIO()
    print_table(summarise(load_runs(tmp_path)), Console(file=stream, width=120))
    assert stream.getvalue().count("[red]x") == 2  # once in each half of the table
