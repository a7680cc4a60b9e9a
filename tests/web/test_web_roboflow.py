"""Roboflow's own SDK against the web server."""

from __future__ import annotations

import base64
import functools
import json
import pickle
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sam3_image.web.clients.roboflow import contours_or_rle
from tests.helpers.client_scenes import Scene, decoded, picked
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.drawn_instances import instances_of
from tests.helpers.roboflow_sdk import Sdk, SdkError, SdkProcess
from tests.helpers.web_server import WebServer

# pycocotools 2.0.11 makes NumPy 2 warn at every decoding.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPES = REPOSITORY / "examples" / "shapes.png"
CONCEPT, VISUAL, EMBED = "sam3_concept_segment", "sam3_visual_segment", "sam3_embed_image"
CIRCLE = {"type": "text", "text": "red circle"}
CLICK = {"points": [{"x": 500, "y": 300, "positive": True}]}


@pytest.fixture(scope="module")
def sdk(web: WebServer, roboflow: SdkProcess) -> Sdk:
    return Sdk(roboflow, web.url)


def masks(predictions: list[dict[str, Any]]) -> list[np.ndarray]:
    assert all(prediction["format"] == "rle" for prediction in predictions)
    return [decoded(prediction["masks"]) for prediction in predictions]


def concept(sdk: Sdk, *prompts: dict[str, Any], **options: Any) -> list[list[dict[str, Any]]]:
    """The predictions of each prompt, as run lengths."""
    options = {"format": "rle", **options}
    answer = sdk.call(CONCEPT, SHAPES, prompts=list(prompts), **options)
    results = answer["prompt_results"]
    assert [result["prompt_index"] for result in results] == list(range(len(prompts)))
    return [result["predictions"] for result in results]


def test_20_scenes_equal_predictions(sdk: Sdk, scenes: list[Scene], tmp_path: Path) -> None:
    count = 0
    for index, scene in enumerate(scenes):
        path = tmp_path / f"{index}.png"
        path.write_bytes(scene.image)
        prompts = [{"type": "text", "text": name} for name in scene.names]
        answer = sdk.call(CONCEPT, path, prompts=prompts, format="rle")
        for result, wanted in zip(answer["prompt_results"], scene.found, strict=True):
            assert [p["masks"] for p in result["predictions"]] == [f["rle"] for f in wanted]
            scores = [p["confidence"] for p in result["predictions"]]
            assert scores == pytest.approx([f["score"] for f in wanted], abs=1e-6)
            count += len(wanted)
    assert count > 20


def test_supervision_reads_polygons(sdk: Sdk, scenes: list[Scene], tmp_path: Path) -> None:
    for index, scene in enumerate(scenes[:5]):
        path = tmp_path / f"{index}.png"
        path.write_bytes(scene.image)
        prompts = [{"type": "text", "text": name} for name in scene.names]
        answer = sdk.call(CONCEPT, path, prompts=prompts)
        height, width = scene.size
        read = sdk.call("from_sam3", path, answer=answer, size=[width, height])
        wanted = [
            (prompt, scene.mask(prompt, n))
            for prompt, found in enumerate(scene.found)
            for n in range(len(found))
        ]
        assert read["class_ids"] == [prompt for prompt, _ in wanted]
        for packed, (_, mask) in zip(read["masks"], wanted, strict=True):
            flat = np.unpackbits(np.array(packed, dtype=np.uint8))[: mask.size]
            contours, _ = cv2.findContours(
                mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            filled = cv2.fillPoly(np.zeros(mask.shape, np.uint8), contours, 1)
            assert np.array_equal(flat.reshape(mask.shape), filled)


@pytest.mark.parametrize("kind", ["numpy", "pil", "async"])
def test_every_way_to_give_an_image(sdk: Sdk, kind: str) -> None:
    answer = sdk.call(CONCEPT, SHAPES, kind, prompts=[CIRCLE], format="rle")
    (wanted,) = concept(sdk, CIRCLE)
    found = answer["prompt_results"][0]["predictions"]
    assert len(found) == len(wanted) == 3
    for mask, exact in zip(masks(found), masks(wanted), strict=True):
        # NumPy and Pillow images are sent as JPEG, which moves an edge here and there.
        assert (mask & exact).sum() / (mask | exact).sum() > 0.97


def test_an_image_by_its_url(sdk: Sdk) -> None:
    """The SDK fetches it itself and sends the bytes."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(SHAPES.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{files.server_address[1]}/{SHAPES.name}"
        answer = sdk.call(CONCEPT, url, prompts=[CIRCLE], format="rle")
        files.shutdown()
    assert [answer["prompt_results"][0]["predictions"]] == concept(sdk, CIRCLE)


def test_several_images_give_several_answers(sdk: Sdk) -> None:
    answers = sdk.call(CONCEPT, SHAPES, "several", prompts=[CIRCLE], format="rle")
    assert [len(a["prompt_results"][0]["predictions"]) for a in answers] == [3, 3]


def test_both_spellings_of_a_box_and_its_labels(sdk: Sdk) -> None:
    corners = {"x0": 43, "y0": 43, "x1": 157, "y1": 157}
    sized = {"x": 43, "y": 43, "width": 114, "height": 114}
    negative = {"x0": 243, "y0": 443, "x1": 357, "y1": 557}
    by_corner, by_size, mixed, all_circles = concept(
        sdk,
        {"boxes": [corners], "box_labels": [1]},
        {"boxes": [sized], "box_labels": [True]},
        {"text": "circle", "boxes": [sized, negative], "box_labels": [1, 0]},
        {"text": "circle"},
    )
    assert by_corner == by_size != []
    assert len(mixed) < len(all_circles)


def test_each_prompt_keeps_its_own_threshold(sdk: Sdk) -> None:
    low, middle, inherited = concept(
        sdk,
        {"text": "red circle", "output_prob_thresh": 0.0},
        {"text": "red circle", "output_prob_thresh": 0.5},
        {"text": "red circle"},
        output_prob_thresh=1.0,
    )
    assert len(low) > 20
    assert len(middle) == 3
    assert inherited == []
    assert min(prediction["confidence"] for prediction in low) < 0.01


def test_the_best_of_overlapping_masks_across_prompts(sdk: Sdk) -> None:
    prompts = [{"text": "red circle", "output_prob_thresh": 0.4}, {"text": "circle"}]
    plain = concept(sdk, *prompts)
    selected = concept(sdk, *prompts, nms_iou_threshold=0.5)
    found = [mask for part in plain for mask in masks(part)]
    kept = [mask for part in selected for mask in masks(part)]
    assert len(kept) < len(found)
    for index, mask in enumerate(kept):
        for other in kept[:index]:
            assert (mask & other).sum() / (mask | other).sum() <= 0.5


def test_points_and_centered_boxes_pick_one_object_each(sdk: Sdk, web: WebServer) -> None:
    box = {"box": {"x": 700, "y": 300, "width": 96, "height": 96}}
    off = {"points": [{"x": 100, "y": 450}, {"x": 100, "y": 500, "positive": False}]}
    prompts = [CLICK, box, {**CLICK, "box": {"x": 500, "y": 300, "width": 120, "height": 120}}, off]
    answer = sdk.call(
        VISUAL, SHAPES, prompts=prompts, mask_input_format="rle", multimask_output=False
    )
    image = SHAPES.read_bytes()
    wanted = [
        picked(web, image, points=[[500, 300]]),
        picked(web, image, boxes=[[652, 252, 748, 348]]),
        picked(web, image, points=[[500, 300]], boxes=[[440, 240, 560, 360]]),
        picked(web, image, points=[[100, 450], [100, 500]], point_labels=[1, 0]),
    ]
    for mask, exact in zip(masks(answer["predictions"]), wanted, strict=True):
        assert np.array_equal(mask, exact)


def test_of_three_candidates_the_best_is_answered(sdk: Sdk, web: WebServer) -> None:
    options = {"prompts": [CLICK], "multimask_output": True}
    (best,) = sdk.call(VISUAL, SHAPES, mask_input_format="rle", **options)["predictions"]
    wanted = picked(web, SHAPES.read_bytes(), points=[[500, 300]], multimask_output=True)
    assert np.array_equal(decoded(best["masks"]), wanted)
    (best,) = sdk.call(VISUAL, SHAPES, **options)["predictions"]
    assert best["format"] == "polygon"
    assert all(len(point) == 2 for point in best["masks"][0])


@pytest.mark.parametrize("form", [[CLICK], CLICK, {"prompts": [CLICK]}])
def test_the_forms_of_visual_prompts(web: WebServer, form: Any) -> None:
    body = {**image_of(SHAPES), "prompts": form, "format": "rle"}
    answer = web.http.post("/sam3/visual_segment", json=body)
    assert answer.status_code == 200, answer.text
    assert masks(answer.json()["predictions"])[0][300, 500]


def test_the_one_prompt_of_older_clients(web: WebServer) -> None:
    """It lies at the top level of the body, and model_id may be null."""

    def ask(route: str, **fields: Any) -> Any:
        body = {**image_of(SHAPES), "format": "rle", "model_id": None, **fields}
        answer = web.http.post(f"/sam3/{route}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    box = {"x": 43, "y": 43, "width": 114, "height": 114}
    for alone in ({"text": "red circle"}, {"boxes": [box]}, {"text": "circle", "boxes": [box]}):
        old = ask("concept_segment", **alone)["prompt_results"]
        new = ask("concept_segment", prompts=[alone])["prompt_results"]
        assert old == new
        assert old[0]["predictions"]
    for alone in (CLICK, {"box": {"x": 700, "y": 300, "width": 96, "height": 96}}):
        old = ask("visual_segment", **alone)["predictions"]
        assert old == ask("visual_segment", prompts=[alone])["predictions"]
        assert len(old) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_the_smallest_instances_have_polygons_of_three_points(shape: tuple[int, int]) -> None:
    full = np.zeros((20, 30), dtype=bool)
    full[7 : 7 + shape[0], 9 : 9 + shape[1]] = True
    (mask,) = instances_of([full]).masks()
    (outline,) = contours_or_rle(mask, "polygon")
    assert len(outline) >= 3
    canvas = np.zeros(full.shape, dtype=np.uint8)
    cv2.fillPoly(canvas, [np.array(outline, dtype=np.int32)], 1)
    assert np.array_equal(canvas.astype(bool), full)


def test_an_embedded_image_needs_not_be_sent_again(sdk: Sdk, web: WebServer) -> None:
    by_content = sdk.call(EMBED, SHAPES)
    named = sdk.call(EMBED, SHAPES, image_id="my picture")
    assert named["image_id"] == "my picture"
    (wanted,) = concept(sdk, CIRCLE)
    for name in (by_content["image_id"], "my picture"):
        body = {"image_id": name, "prompts": [CIRCLE], "format": "rle"}
        answer = web.http.post("/sam3/concept_segment", json=body).json()
        assert answer["prompt_results"][0]["predictions"] == wanted
    unknown = web.http.post("/sam3/concept_segment", json={"image_id": "x", "prompts": [CIRCLE]})
    assert unknown.status_code == 404
    assert "No image_id 'x' is kept here" in unknown.json()["message"]


@pytest.mark.parametrize(
    ("kind", "options", "status", "message"),
    [
        ("path", {"prompts": [{"type": "text", "text": ""}]}, 422, "prompts[0] is blank ('')"),
        ("path", {"prompts": []}, 422, "prompts has 0 entries; at least 1"),
        ("path", {"prompts": [CIRCLE] * 17}, 422, "prompts has 17 entries; at most 16"),
        ("path", {"prompts": [CIRCLE], "output_prob_thresh": 2}, 422, "output_prob_thresh is 2: "),
        ("path", {"prompts": [CIRCLE], "format": "png"}, 422, "format is 'png': "),
        ("path", {"prompts": [{"boxes": [{"x": 1}]}]}, 422, "a box is {'x': 1.0}; give x, y "),
        ("path", {"prompts": [CIRCLE], "model_id": "mine/3"}, 422, "model_id is 'mine/3'; "),
        ("text", {"prompts": [CIRCLE]}, 400, "is not base64; send the bytes of the image file"),
        ("damaged", {"prompts": [CIRCLE]}, 400, "The PNG is cut off or damaged"),
    ],
)
def test_what_a_person_reads_of_an_error(
    sdk: Sdk, tmp_path: Path, kind: str, options: dict[str, Any], status: int, message: str
) -> None:
    image = SHAPES
    if kind == "text":
        image = Path("no-such-picture.png")
    elif kind == "damaged":
        image = tmp_path / "damaged.png"
        image.write_bytes(SHAPES.read_bytes()[:900])
    with pytest.raises(SdkError) as caught:
        sdk.call(CONCEPT, image, **options)
    shown = str(caught.value)
    assert shown.startswith("HTTPCallErrorError: ")
    assert message in shown
    assert f"{status}" in shown


def test_pickled_arrays_are_refused_unread(web: WebServer) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path("/tmp/sam3-pickle-was-loaded").write_text, ("x",))

    image = {"type": "numpy", "value": base64.b64encode(pickle.dumps(Bomb())).decode()}
    answer = web.http.post("/sam3/concept_segment", json={"image": image, "prompts": [CIRCLE]})
    assert answer.status_code == 400
    assert "pickled arrays are never loaded" in answer.json()["message"]
    assert not Path("/tmp/sam3-pickle-was-loaded").exists()


def test_unknown_fields_and_query_keys_are_ignored(web: WebServer) -> None:
    body = {**image_of(SHAPES), "prompts": [CIRCLE], "disable_model_monitoring": True, "x": None}
    answer = web.http.post("/sam3/concept_segment?source=a&countinference=false", json=body)
    assert answer.status_code == 200
    assert len(answer.json()["prompt_results"][0]["predictions"]) == 3


def test_a_body_that_is_not_json(web: WebServer) -> None:
    deep = b"[" * 100_000
    for content in (b"", b"\xff\xfe", b"{", b"[1]", json.dumps("x").encode(), deep):
        answer = web.http.post("/sam3/concept_segment", content=content)
        assert answer.status_code == 422
        assert isinstance(answer.json()["message"], str)
        assert "\n" not in answer.json()["message"]


def image_of(path: Path) -> dict[str, Any]:
    return {"image": {"type": "base64", "value": base64.b64encode(path.read_bytes()).decode()}}


def test_without_a_prompt_every_object_is_segmented(sdk: Sdk) -> None:
    answer = sdk.call(VISUAL, SHAPES, mask_input_format="rle")
    assert len(answer["predictions"]) >= 4
    assert all(decoded(one["masks"]).any() for one in answer["predictions"])
    scores = [one["confidence"] for one in answer["predictions"]]
    assert scores == sorted(scores, reverse=True)


def test_logits_are_kept_for_the_next_click(web: WebServer) -> None:
    """The second click starts from the answer to the first: its score is another one."""
    clicks = [{"x": 500, "y": 300, "positive": True}, {"x": 520, "y": 310, "positive": True}]
    image = {"type": "base64", "value": base64.b64encode(SHAPES.read_bytes()).decode()}

    def score(points: list[dict[str, Any]], **flags: bool) -> float:
        body = {"image": image, "prompts": [{"points": points}], "format": "rle", **flags}
        answer = web.http.post("/sam3/visual_segment", json=body)
        assert answer.status_code == 200, answer.text
        (prediction,) = answer.json()["predictions"]
        return float(prediction["confidence"])

    plain = score(clicks)
    assert score(clicks, load_logits_from_cache=True) == plain  # nothing was saved
    score(clicks[:1], save_logits_to_cache=True)
    assert score(clicks, load_logits_from_cache=True) != plain
    assert score(clicks) == plain
