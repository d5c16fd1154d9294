"""The drawn parameters: independent of the batch, and distributed as torchvision's own."""

import pickle

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ccscale.config import View, Views, strong_view, weak_view
from ccscale.data.images.views import NEUTRAL, ColourParameters, crop_box, draw_views

COUNT = 4000
SAMPLES = np.arange(COUNT)
ALL_ON = Views(rotate=30, translate=0.2, zoom=(0.8, 1.2), blur=0.5, strength=1.0, rand_augment=3, cutout=0.3)
FIELDS = ("crop", "flip", "angle", "shift", "zoom", "operations", "backwards", "hole")
COLOUR_FIELDS = ("order", "factors", "grey", "sigma")


def arrays(params):
    """All arrays of the parameters by name."""
    return {name: getattr(params, name) for name in FIELDS} | {
        name: getattr(params.colour, name) for name in COLOUR_FIELDS
    }


def same_distribution(ours, theirs):
    """Kolmogorov-Smirnov; the draws are fixed, so a passing test passes always."""
    return stats.ks_2samp(ours, theirs).pvalue > 1e-3


def test_shapes_and_types():
    shapes = {
        name: (array.shape, array.dtype.name)
        for name, array in arrays(draw_views(ALL_ON, 0, 0, SAMPLES[:5])).items()
    }
    assert shapes == {
        "crop": ((2, 5, 22), "float64"),
        "flip": ((2, 5), "bool"),
        "angle": ((2, 5), "float64"),
        "shift": ((2, 5, 2), "int64"),
        "zoom": ((2, 5), "float64"),
        "operations": ((2, 5, 8), "int8"),
        "backwards": ((2, 5, 8), "bool"),
        "hole": ((2, 5, 4), "int64"),
        "order": ((2, 5, 4), "int8"),
        "factors": ((2, 5, 4), "float32"),
        "grey": ((2, 5), "bool"),
        "sigma": ((2, 5), "float32"),
    }


def test_a_sample_has_the_same_views_in_every_batch():
    samples = np.array([12, 3, 2**33, 7])
    together = arrays(draw_views(ALL_ON, 5, 6, samples))
    for i, sample in enumerate(samples):
        for name, array in arrays(draw_views(ALL_ON, 5, 6, np.array([sample]))).items():
            np.testing.assert_array_equal(array[:, 0], together[name][:, i], err_msg=name)


@pytest.mark.parametrize(
    ("change", "affected"),
    [
        ({"flip": 0}, {"flip"}),
        ({"rotate": 0}, {"angle"}),
        ({"translate": 0}, {"shift"}),
        ({"zoom": (1, 1)}, {"zoom"}),
        ({"jitter": 0}, {"factors"}),
        ({"hue": 0}, {"factors"}),
        ({"grey": 0}, {"grey"}),
        ({"blur": 0}, {"sigma"}),
        ({"crop_scale": None}, set()),
        ({"rand_augment": 0}, {"operations", "backwards"}),
        ({"rand_augment": 4}, {"operations", "backwards"}),
        ({"cutout": 0}, {"hole"}),
        ({"rand_augment": 0, "cutout": 0}, {"operations", "backwards", "hole"}),
    ],
)
def test_switching_one_operation_off_leaves_the_others_as_they_are(change, affected):
    before = arrays(draw_views(ALL_ON, 0, 0, SAMPLES[:100]))
    after = arrays(draw_views(ALL_ON.model_copy(update=change), 0, 0, SAMPLES[:100]))
    assert {name for name in before if not np.array_equal(before[name], after[name])} == affected


@pytest.mark.parametrize("raw", [0, 1, 2])
def test_raw_views_are_left_as_they_are_and_the_others_are_not_touched(raw):
    before = arrays(draw_views(ALL_ON, 0, 0, SAMPLES[:100]))
    after = arrays(draw_views(ALL_ON.model_copy(update={"raw": raw}), 0, 0, SAMPLES[:100]))
    neutral = {
        "operations": -1,
        "backwards": 0,
        "hole": 0,
        "flip": 0,
        "angle": 0,
        "shift": 0,
        "zoom": 1,
        "factors": NEUTRAL,
        "grey": 0,
        "sigma": 0,
    }
    for name, array in after.items():
        np.testing.assert_array_equal(array[: 2 - raw], before[name][: 2 - raw], err_msg=name)
        if name in neutral:
            assert (array[2 - raw :] == neutral[name]).all(), name
    each = ALL_ON.model_copy(update={"raw": raw}).each(2)
    assert [view.crop_scale is not None for view in each] == [view < 2 - raw for view in range(2)]


def test_the_two_views_and_two_epochs_differ():
    here, later = (arrays(draw_views(ALL_ON, 0, epoch, SAMPLES[:100])) for epoch in (0, 1))
    for name, array in here.items():
        assert not np.array_equal(array[0], array[1]), name
        assert not np.array_equal(array, later[name]), name


@pytest.mark.parametrize(
    ("name", "key"), [("flip", "flip"), ("grey", "grey"), ("sigma", "blur"), ("factors", "jitter")]
)
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_probabilities(name, key, probability):
    array = arrays(draw_views(ALL_ON.model_copy(update={key: probability}), 1, 0, SAMPLES))[name]
    happened = (array != NEUTRAL).any(axis=-1) if name == "factors" else array != 0
    assert stats.binomtest(int(happened.sum()), happened.size, probability).pvalue > 1e-3
    # Independent between the views: the two coincide as often as chance has it.
    both = int((happened[0] & happened[1]).sum())
    assert stats.binomtest(both, COUNT, probability**2).pvalue > 1e-3


def test_jitter_is_distributed_as_torchvision_s():
    settings = Views(jitter=1, strength=0.5, brightness=2.4, contrast=0.8, saturation=0.6, hue=0.2)
    colour = draw_views(settings, 0, 0, SAMPLES).colour
    torch.manual_seed(0)
    jitter = T.ColorJitter(1.2, 0.4, 0.3, 0.1)  # a brightness above 1: its range is cut off at 0
    theirs = [
        jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) for _ in SAMPLES
    ]
    for number in range(4):
        values = np.array([draw[1 + number] for draw in theirs])
        assert same_distribution(colour.factors[0, :, number], values), number
        assert same_distribution(colour.factors[1, :, number], values), number
    assert np.abs(np.corrcoef(colour.factors[0], rowvar=False) - np.eye(4)).max() < 0.08


def test_every_order_of_the_jitter_is_as_likely():
    order = draw_views(ALL_ON, 0, 0, SAMPLES).colour.order.reshape(-1, 4)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.broadcast_to(np.arange(4), order.shape))
    counts = np.unique(order, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_affine_is_distributed_as_torchvision_s():
    settings = Views(size=50, rotate=25, translate=0.1, zoom=(0.7, 1.5))
    params = draw_views(settings, 0, 0, SAMPLES)
    torch.manual_seed(0)
    theirs = [T.RandomAffine.get_params([-25, 25], (0.1, 0.1), (0.7, 1.5), None, [50, 50]) for _ in SAMPLES]
    assert same_distribution(params.angle[0], [draw[0] for draw in theirs])
    assert same_distribution(params.zoom[1], [draw[2] for draw in theirs])
    for axis in range(2):
        ours = np.bincount(params.shift[0, :, axis] + 5, minlength=11)
        shifts = np.bincount(np.array([draw[1][axis] for draw in theirs]) + 5, minlength=11)
        # Eleven whole numbers, the outer two half as likely.
        assert len(ours) == len(shifts) == 11
        assert stats.chi2_contingency([ours, shifts]).pvalue > 1e-3


def test_blur_is_uniform_in_its_range():
    sigma = draw_views(Views(blur=1, blur_sigma=(0.5, 3)), 0, 0, SAMPLES).colour.sigma
    assert stats.kstest(sigma.ravel(), stats.uniform(0.5, 2.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("width", "height", "scale", "ratio"),
    [
        (500, 375, (0.08, 1.0), (3 / 4, 4 / 3)),
        (32, 32, (0.2, 1.0), (3 / 4, 4 / 3)),
        (900, 100, (0.3, 1.0), (1 / 2, 4)),  # many tries fail
        (60, 300, (0.08, 1.0), (3 / 4, 4 / 3)),
    ],
)
def test_crops_are_distributed_as_torchvision_s(width, height, scale, ratio):
    u = draw_views(Views(), 0, 0, SAMPLES).crop[0]
    ours = np.array([crop_box(row, width, height, scale, ratio) for row in u])
    image = torch.empty(1, 1, 1).expand(3, height, width)
    torch.manual_seed(0)
    theirs = np.array([T.RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in SAMPLES])
    theirs = theirs[:, [1, 0, 3, 2]]  # top, left, height, width -> left, top, width, height
    for ours_column, theirs_column in zip(ours.T, theirs.T, strict=True):
        assert same_distribution(ours_column, theirs_column)
    assert same_distribution(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3])
    assert same_distribution(ours[:, 2] / ours[:, 3], theirs[:, 2] / theirs[:, 3])


def test_a_crop_that_never_fits_falls_back_to_the_centre_as_torchvision_s(monkeypatch):
    u = np.full(22, 0.999)  # nearly the whole area, as wide as it may be
    monkeypatch.setattr(
        torch.Tensor, "uniform_", lambda self, low, high: self.fill_(low + 0.999 * (high - low))
    )
    for width, height in [(100, 20), (20, 100), (90, 81), (7, 1), (1, 7), (1, 1)]:
        image = torch.empty(3, height, width)
        top, left, h, w = T.RandomResizedCrop.get_params(image, [0.9, 1.0], [3 / 4, 4 / 3])
        assert crop_box(u, width, height, (0.9, 1.0), (3 / 4, 4 / 3)) == (left, top, w, h)


@given(
    u=st.lists(st.floats(0, 1, exclude_max=True), min_size=22, max_size=22),
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    scale=st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)).map(sorted),
    ratio=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)).map(sorted),
)
def test_a_crop_is_always_inside_the_image(u, width, height, scale, ratio):
    left, top, w, h = crop_box(np.array(u), width, height, tuple(scale), tuple(ratio))
    assert w >= 1
    assert h >= 1
    assert 0 <= left <= width - w
    assert 0 <= top <= height - h


def test_every_place_of_a_crop_is_reached():
    boxes = {}
    for top in (0.0, np.nextafter(1, 0)):
        for left in (0.0, np.nextafter(1, 0)):
            u = np.array([0.5] * 20 + [top, left])
            boxes[round(top), round(left)] = crop_box(u, 40, 30, (0.25, 0.25), (1, 1))
    # A quarter of 40x30 pixels as a square: 17x17.
    assert boxes == {(y, x): (23 * x, 13 * y, 17, 17) for y in (0, 1) for x in (0, 1)}


def test_every_parameter_has_a_number_of_its_own():
    params, colour = draw_views(ALL_ON, 0, 0, SAMPLES), draw_views(ALL_ON, 0, 0, SAMPLES).colour
    jittered = draw_views(ALL_ON.model_copy(update={"jitter": 1}), 0, 0, SAMPLES).colour
    blurred = draw_views(ALL_ON.model_copy(update={"blur": 1}), 0, 0, SAMPLES).colour
    for view in range(2):
        columns = np.column_stack(
            [
                params.crop[view],
                params.flip[view],
                params.angle[view],
                params.shift[view],
                params.zoom[view],
                (colour.factors[view] != NEUTRAL).any(axis=1),
                jittered.factors[view],
                colour.order[view, :, :3],
                colour.grey[view],
                colour.sigma[view] > 0,
                blurred.sigma[view],
            ]
        )
        correlation = np.corrcoef(columns, rowvar=False) - np.eye(columns.shape[1])
        # Two parameters from one number have .5 and more; the standard error is .016. The places of an order
        # exclude one another (-1/3 each) and are left out among themselves.
        order = slice(-6, -3)
        correlation[order, order] = 0
        assert np.abs(correlation).max() < 0.08


def test_parts_of_a_batch_join_to_the_whole():
    whole = draw_views(ALL_ON, 0, 0, SAMPLES[:7]).colour
    parts = [draw_views(ALL_ON, 0, 0, samples).colour for samples in np.split(SAMPLES[:7], [2, 3])]
    joined = ColourParameters.concatenate([pickle.loads(pickle.dumps(part)) for part in parts]).flatten()
    assert len(joined) == 14
    flat = whole.flatten()
    for name in COLOUR_FIELDS:
        np.testing.assert_array_equal(getattr(joined, name), getattr(flat, name))
        np.testing.assert_array_equal(getattr(flat, name)[:7], getattr(whole, name)[0])
        np.testing.assert_array_equal(getattr(flat[7:], name), getattr(whole, name)[1])


def test_one_image_of_a_batch_is_replaced():
    batch = draw_views(ALL_ON, 0, 0, SAMPLES[:3]).colour
    before = pickle.loads(pickle.dumps(batch))
    replaced = batch.replaced(1, draw_views(ALL_ON, 0, 0, np.array([77])).colour)
    wanted = draw_views(ALL_ON, 0, 0, np.array([0, 77, 2])).colour
    for name in COLOUR_FIELDS:
        np.testing.assert_array_equal(getattr(replaced, name), getattr(wanted, name))
        np.testing.assert_array_equal(getattr(batch, name), getattr(before, name))


def test_rand_augment_takes_each_operation_and_direction_as_often():
    params = draw_views(Views(rand_augment=3), 0, 0, SAMPLES)
    chosen = params.operations[..., :3]
    assert (params.operations[..., 3:] == -1).all()
    assert stats.chisquare(np.bincount(chosen.ravel(), minlength=14)).pvalue > 1e-3
    table = stats.contingency.crosstab(chosen[0, :, 0], chosen[0, :, 1]).count  # independent of each other
    assert stats.chi2_contingency(table).pvalue > 1e-3
    backwards = params.backwards[..., :3]
    assert stats.binomtest(int(backwards.sum()), backwards.size, 0.5).pvalue > 1e-3


@pytest.mark.parametrize(("size", "cutout", "side"), [(32, 0.5, 16), (33, 0.21, 7), (20, 1.0, 20)])
def test_the_middle_of_a_cutout_is_anywhere(size, cutout, side):
    left, top, right, bottom = np.moveaxis(
        draw_views(Views(size=size, cutout=cutout), 0, 0, SAMPLES).hole, -1, 0
    )
    assert (np.minimum(left, top) >= 0).all()
    assert (np.maximum(right, bottom) <= size).all()
    assert (right - left).max() == (bottom - top).max() == side
    middles = np.where(left > 0, left + side // 2, right - (side - side // 2))[0]  # of those cut off too
    assert stats.chisquare(np.bincount(middles, minlength=size)).pvalue > 1e-3 or cutout == 1


def test_weak_and_strong_views_follow_the_data_s_own_unless_given():
    digits = Views(size=32, flip=0, rotate=20, blur=0.5, blur_kernel=3, raw=1)
    strong = strong_view(digits, None)
    kept = {"size", "flip", "rotate", "translate", "zoom", "blur_kernel", "scaled_decode"}
    assert strong.model_dump(include=kept) == digits.model_dump(include=kept)
    assert (strong.crop_scale, strong.jitter, strong.grey, strong.blur) == (None, 0, 0, 0)
    assert (strong.rand_augment, strong.cutout, strong.raw) == (4, 0.5, 0)
    assert weak_view(digits, None) == digits.model_copy(update={"raw": 0})
    given = View(crop_scale=(0.2, 1.0), blur=0.5)
    assert weak_view(digits, given) == strong_view(digits, given)
    assert weak_view(digits, given) == Views(size=32, crop_scale=(0.2, 1.0), blur=0.5, blur_kernel=3)
