import re

from r1reward.reporting import write_report
from r1reward.reporting.page import choose_samples, readable
from r1reward.reporting.runs import load_runs
from r1reward.reporting.summary import summarise
from tests.reporting.synthetic import judged, write_run


def page_of(folder, output, **options):
    return write_report(summarise(load_runs(folder)), output, **options)["page"].read_text(encoding="utf-8")


def test_everything_a_run_wrote_is_escaped(tmp_path):
    evil = judged(1, 1, 1, completion="<think>3 < 4 & so</think><answer>1</answer><script>alert('x')</script>")
    evil |= {"id": '"><img src=x>', "rejection": None}
    write_run(tmp_path / "runs" / "a", arm="<i>arm</i>", seed=0, samples=[evil])
    text = page_of(tmp_path / "runs", tmp_path / "out", title="<u>title</u>", question="a < b?")
    assert "&lt;think&gt;3 &lt; 4 &amp; so&lt;/think&gt;" in text and "a &lt; b?" in text
    assert not any(tag in text for tag in ("<script", "<think", "<i>", "<u>", "<img src=x"))


def test_the_page_needs_nothing_but_itself(study, tmp_path):
    text = page_of(study, tmp_path)
    sources = re.findall(r'src="([^"]{0,30})', text)
    # Two figures, and a thumbnail for each of four samples of four arms.
    assert len(sources) == 2 + 4 * 4 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http:" not in text and "https:" not in text and "url(" not in text and "<link" not in text


def test_arms_runs_differences_and_unfinished_runs_are_on_the_page(study):
    text = page_of(study, study / "comparison")
    assert 'href="../no_filter_2/config.yaml"' in text
    assert "<code>algorithm.clip</code>" in text and "<code>trainer.learning_rate</code>" not in text
    # 40 steps: the first collapse is at 2/3 of them.
    assert "step 26: 3 steps in a row without a finite loss; 3 steps skipped" in text
    assert re.search(r"Not finished</h2>.*full_3</a> \(full, seed 3, 2 steps so far\)", text, re.DOTALL)
    # A report inside the study is not taken for a run the next time.
    assert len(load_runs(study)) == 11


def test_one_run_given_directly_makes_a_page_without_comparison(tmp_path):
    folder = write_run(tmp_path / "run", arm="only", seed=0, samples=[])
    text = page_of(folder, tmp_path / "out")
    assert "before and after training?" in text and "What differs" not in text and "No samples were recorded" in text


def test_samples_are_the_latest_of_each_outcome():
    samples = [judged(1, 1, 1), judged(5, 1, 1), judged(5, 2, 1), judged(3, None, 1), judged(4, 2, 1, kept=False)]
    samples += [judged(6, 1, 1), judged(7, 1, 1)]
    chosen = choose_samples(samples, 4)
    assert [(s["step"], s["verdict"], s["kept"]) for s in chosen] == [
        (3, None, True),
        (4, 2, False),
        (5, 2, True),
        (7, 1, True),
    ]
    assert choose_samples([], 4) == [] and len(choose_samples(samples[:2], 4)) == 2


def test_long_texts_are_cut_and_image_tokens_counted():
    assert readable("<|image_pad|>" * 3 + "x") == "<|image_pad|> × 3x"
    text = readable("a" * 5000)
    assert "2000 characters left out" in text and text.count("a") == 3000 + len(re.findall("a", "characters"))
    assert readable(None) == ""
