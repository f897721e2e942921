"""One-line faults, each with the test that must notice it. `run.py` puts them into a copy of the package in turn."""

from typing import NamedTuple


class Fault(NamedTuple):
    """`old`, which stands once in `file` (below mpc_lite/), becomes `new`; `test` must fail then."""

    name: str
    file: str
    old: str
    new: str
    test: str


_LOSS, _INFONCE, _VIEWS = "contrast/loss.py", "contrast/infonce.py", "contrast/views.py"
_SAMPLING, _METRICS = "contrast/sampling.py", "evaluation/metrics.py"
_LOSS_TESTS, _METRIC_TESTS = "tests/contrast/test_loss.py::", "tests/evaluation/test_metrics.py::"
_TABLE = _METRIC_TESTS + "test_hand_made_table"
_MIXED = _LOSS_TESTS + "test_mixed_batch_leaves_one_class_images_out_of_the_mean"
_LOOPS = "tests/contrast/test_infonce.py::test_infonce_matches_the_loops"
_DRAWS = "tests/contrast/test_sampling.py::test_draws_are_distinct_pixels_of_the_class"
_CLOSED_FORM = _LOSS_TESTS + (
    "test_paper_formulation_of_constant_orthogonal_classes_is_log_negatives_minus_one_over_temperature"
)

FAULTS = [
    # loss
    Fault("attraction for repulsion", _LOSS, "repulsion - attraction +", "attraction - repulsion +", _CLOSED_FORM),
    Fault("untampered images count", _LOSS, "& (tampered >= 1)", "& (tampered >= 0)", _MIXED),
    Fault("mean over all images", _LOSS, "values.sum() / counted.sum().clamp_min(1)", "values.mean()", _MIXED),
    Fault(
        "anchor as its own positive",
        _LOSS,
        "skip_self = term.positives is term.anchors",
        "skip_self = False",
        _LOSS_TESTS + "test_each_image_matches_the_loops",
    ),
    Fault("self-term kept", _INFONCE, " - a.square().sum(2)) / others", ") / others", _LOOPS),
    Fault("no temperature", _INFONCE, "(anchors[images, rows] / temperature)", "anchors[images, rows]", _LOOPS),
    Fault(
        "gradient over n instead of n - 1",
        _INFONCE,
        "called) / (n - 1).clamp_min(1)",
        "called) / n.clamp_min(1)",
        "tests/contrast/test_infonce.py::test_gradcheck",
    ),
    Fault(
        "focal loss without focus",
        "training/finetune.py",
        "torch.exp(gamma * F.logsigmoid(-margin))",
        "1.0",
        _LOSS_TESTS + "test_focal_loss_equals_the_released_code",
    ),
    Fault(
        "mask cells by a quarter",
        _VIEWS,
        "planes[:, 0] > TAMPERED_ABOVE / 255",
        "planes[:, 0] > 0.25",
        "tests/contrast/test_views.py::test_resized_mask_matches_loops",
    ),
    Fault(
        "coarser labels by the centre",
        _VIEWS,
        'mode="nearest")[:, 0]',
        'mode="nearest-exact")[:, 0]',
        "tests/contrast/test_views.py::test_pyramid_takes_every_second_pixel_and_follows_odd_sizes",
    ),
    # sampling
    Fault(
        "the other class is drawn too",
        _SAMPLING,
        "torch.where(match, keys, -1.0)",
        "torch.where(match, keys, 0.0)",
        _DRAWS,
    ),
    Fault("one pixel too many", _SAMPLING, "min(max_pixels, pixels)", "min(max_pixels + 1, pixels)", _DRAWS),
    Fault(
        "late pixels preferred",
        _SAMPLING,
        "keys = torch.rand(batch, pixels, device=maps.device)",
        "keys = torch.rand(batch, pixels, device=maps.device).sort(1)[0]",
        "tests/contrast/test_sampling.py::test_every_pixel_is_drawn_equally_often",
    ),
    # metrics
    Fault(
        "F1 with TP once",
        _METRICS,
        "_ratio(2 * counts.tp,",
        "_ratio(counts.tp,",
        _TABLE,
    ),
    Fault(
        "IoU without false alarms",
        _METRICS,
        "_ratio(counts.tp, counts.tp + counts.fp + counts.fn)",
        "_ratio(counts.tp, counts.tp + counts.fn)",
        _TABLE,
    ),
    Fault(
        "ignored pixels for authentic ones",
        _METRICS,
        "counts.reshape(3, TOP + 1)[:2]",
        "counts.reshape(3, TOP + 1)[[2, 1]]",
        _METRIC_TESTS + "test_against_scikit_learn_and_oracles",
    ),
    Fault(
        "marks and misses exchanged",
        _METRICS,
        "Counts(tp, fp, tampered - tp, authentic - fp)",
        "Counts(tampered - tp, fp, tp, authentic - fp)",
        _METRIC_TESTS + "test_counts_by_level_has_every_threshold",
    ),
    Fault(
        "ignored pixels inside the border",
        _METRICS,
        "np.where((inner == outer) & (mask != IGNORE), inner",
        "np.where(inner == outer, inner",
        _METRIC_TESTS + "test_the_border_is_what_minimum_and_maximum_filters_leave",
    ),
    # readers
    Fault(
        "mirrored for turned",
        "images.py",
        "if turn in (2, 3, 6, 7)",
        "if turn in (2, 3, 5, 7)",
        "tests/test_images.py::test_exif_orientation_is_applied_once",
    ),
    Fault(
        "orientation not read",
        "decoders.py",
        'return (exif if hasattr(image, "tag_v2") else plain.getexif()).get(Tag.TURN, 1)',
        "return 1",
        "tests/test_images.py::test_exif_orientation_is_applied_once",
    ),
    Fault(
        "bytes in 16 bits made black",
        "images.py",
        "0 if high <= 255 else 8",
        "8",
        "tests/test_images.py::test_deep_files_whose_values_are_bytes_are_taken_as_they_are",
    ),
    Fault(
        "paths from the working folder",
        "data/manifest.py",
        "image=place(cells[image_at], folder)",
        "image=place(cells[image_at])",
        "tests/data/test_manifest.py::test_reads_rows_in_order_with_paths_from_the_manifests_folder",
    ),
    Fault(
        "NaN in weights",
        "network/checks.py",
        "elif not torch.isfinite(value).all():",
        "elif False:",
        "tests/network/test_hostile_weights.py::test_values_that_no_training_leaves_are_refused",
    ),
    # generator
    Fault(
        "pixels moved by half of 1/32",
        "forgeries/resample.py",
        "half = _FINE // _PART // 2 if linear",
        "half = 0 if linear",
        "tests/forgeries/test_same_bytes.py::test_forgeries_from_simulated_cameras",
    ),
    # resume
    Fault(
        "momentum forgotten",
        "training/checkpoint.py",
        '    optimizer.load_state_dict(state["optimizer"])\n',
        "",
        "tests/training/test_loop.py::test_a_stopped_run_resumes_to_the_same_weights",
    ),
    Fault(
        "another recipe goes on",
        "training/identity.py",
        "    if all(differing):\n",
        "    if not written:\n",
        "tests/training/test_loop.py::test_another_recipe_cannot_resume",
    ),
    Fault(
        "another validation list goes on",
        "training/identity.py",
        "if part for each in (part.manifest, part.validation)]",
        "if part for each in (part.manifest,)]",
        "tests/training/test_checkpoint.py::test_a_changed_row_in_any_list_makes_another_run",
    ),
    Fault(
        "another number of processes goes on",
        "training/checkpoint.py",
        'if state["processes"] != processes:',
        'if state["processes"] < 0:',
        "tests/training/test_loop.py::test_another_number_of_processes_cannot_resume",
    ),
]
