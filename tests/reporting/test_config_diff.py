from r1reward.reporting.config_diff import config_differences, flatten


def test_only_what_tells_the_arms_apart_is_left():
    def config(clip, seed, where):
        return {
            "seed": seed,
            "output_dir": where,
            "run": {"name": f"{clip}-{seed}", "arm": clip},
            "data": {"seed": seed, "rows": 100},
            "clip": {"name": clip, "range": [0.2, 0.2]},
            "hydra": {"job": {"num": seed}},
        }

    differences = config_differences(
        {"a": [config("pre_clip", 0, "/x/0"), config("pre_clip", 1, "/x/1")], "b": [config("none", 0, "/x/2")]}
    )
    assert [(d.key, d.values) for d in differences] == [("clip.name", {"a": "pre_clip", "b": "none"})]


def test_keys_that_an_arm_lacks_and_values_that_vary_within_an_arm_are_shown():
    differences = config_differences({"a": [{"lr": 1e-6}, {"lr": 1e-5}], "b": [{"lr": 1e-6, "kl": None}]})
    assert {d.key: d.values for d in differences} == {
        "kl": {"a": "(not set)", "b": "null"},
        "lr": {"a": "1e-05 | 1e-06", "b": "1e-06"},
    }


def test_paths_that_follow_the_seed_are_left_out_but_a_chosen_path_is_not():
    differences = config_differences(
        {
            "a": [
                {"start": "runs/0", "model": {"path": "org/small"}},
                {"start": "runs/1", "model": {"path": "org/small"}},
            ],
            "b": [{"start": "runs/0", "model": {"path": "org/large"}}],
        }
    )
    assert [d.key for d in differences] == ["model.path"]


def test_flatten_keeps_lists_and_empty_sections_as_values():
    assert flatten({"a": {"b": {"c": 1}, "d": [1, {"e": 2}]}, "f": {}}) == {"a.b.c": 1, "a.d": [1, {"e": 2}], "f": {}}
