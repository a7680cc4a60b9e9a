"""The checkpoint in plain transformers: its own loading and processors, called as Meta's SAM 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Sam3Model, Sam3Processor, Sam3TrackerModel, Sam3TrackerProcessor
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

from tools.demo_checkpoint.as_meta import (
    fill_holes,
    image_embeddings,
    masked_box,
    post_process,
    set_epsilon,
)

XYXY = tuple[float, float, float, float]


@dataclass(frozen=True)
class Question:
    """A text, and exemplar boxes in pixels with whether each is positive."""

    text: str
    boxes: tuple[tuple[XYXY, bool], ...] = ()


@dataclass(frozen=True)
class Halves:
    """Both models of one folder with their processors."""

    detector: Sam3Model
    detector_processor: Sam3Processor
    tracker: Sam3TrackerModel
    tracker_processor: Sam3TrackerProcessor

    @staticmethod
    def load(folder: Path | str, dtype: torch.dtype = torch.float32) -> Halves:
        """Read `folder`, for example weights/demo."""
        halves = Halves(
            Sam3Model.from_pretrained(folder, dtype=dtype).eval(),
            Sam3Processor.from_pretrained(folder),
            Sam3TrackerModel.from_pretrained(folder, dtype=dtype).eval(),
            Sam3TrackerProcessor.from_pretrained(folder),
        )
        set_epsilon(halves.detector)
        set_epsilon(halves.tracker)
        return halves

    @torch.inference_mode()
    def find(
        self, image: Image.Image, questions: Sequence[Question], threshold: float = 0.5
    ) -> list[np.ndarray]:
        """For each question the masks found: bool (instances, height, width), best first."""
        if not questions:
            return []
        pixels = self.detector_processor(images=image, return_tensors="pt")["pixel_values"]
        vision = self.detector.get_vision_features(pixels.to(self.detector.dtype))
        found: list[np.ndarray] = [np.empty(0)] * len(questions)
        # Questions with and without boxes cannot share a batch: a row of padding would be a box.
        for boxed in (False, True):
            rows = [i for i, question in enumerate(questions) if bool(question.boxes) == boxed]
            if rows:
                masks = self._find(image, vision, [questions[i] for i in rows], threshold)
                for row, own in zip(rows, masks, strict=True):
                    found[row] = own
        return found

    def _find(
        self,
        image: Image.Image,
        vision: Sam3VisionEncoderOutput,
        questions: list[Question],
        threshold: float,
    ) -> list[np.ndarray]:
        count, size = len(questions), (image.height, image.width)
        boxed = bool(questions[0].boxes)
        inputs = self.detector_processor(
            text=[question.text for question in questions],
            original_sizes=[list(size)] * count,
            input_boxes=[[list(box) for box, _ in q.boxes] for q in questions] if boxed else None,
            input_boxes_labels=[[int(p) for _, p in q.boxes] for q in questions] if boxed else None,
            return_tensors="pt",
        )
        inputs.pop("original_sizes")
        if not boxed:
            inputs |= masked_box(count)
        inputs["input_boxes"] = inputs["input_boxes"].to(self.detector.dtype)
        many = Sam3VisionEncoderOutput(
            fpn_hidden_states=tuple(
                level.expand(count, -1, -1, -1) for level in vision.fpn_hidden_states
            ),
            fpn_position_encoding=tuple(
                level.expand(count, -1, -1, -1) for level in vision.fpn_position_encoding
            ),
        )
        outputs = self.detector(vision_embeds=many, **inputs)
        for name in ("pred_masks", "pred_logits", "presence_logits", "pred_boxes"):
            outputs[name] = outputs[name].float()
        results = post_process(self.detector_processor, outputs, [size] * count, threshold)
        masks = []
        for result in results:
            order = result["scores"].argsort(descending=True)
            own = result["masks"]
            own = own[order] if len(order) else torch.zeros(0, *size)
            masks.append(own.bool().numpy())
        return masks

    @torch.inference_mode()
    def pick(
        self,
        image: Image.Image,
        points: list[list[tuple[float, float]]] | None,
        labels: list[list[int]] | None,
        boxes: list[XYXY] | None,
    ) -> np.ndarray:
        """Return the best candidate for each object: bool (objects, height, width).

        `points` and `labels` per object, `boxes` one per object, in pixels of `image`.
        """
        inputs = self.tracker_processor(
            images=image,
            input_points=[[[list(p) for p in own] for own in points]] if points else None,
            input_labels=[labels] if labels else None,
            input_boxes=[[list(box) for box in boxes]] if boxes else None,
            return_tensors="pt",
        )
        sizes = inputs.pop("original_sizes")
        pixels = inputs.pop("pixel_values").to(self.tracker.dtype)
        embeddings = image_embeddings(self.tracker, pixels)
        outputs = self.tracker(image_embeddings=embeddings, **inputs, multimask_output=True)
        best = outputs.iou_scores[0].argmax(dim=-1)
        masks = outputs.pred_masks[0][torch.arange(len(best)), best].float()
        filled = fill_holes(masks[None, :, None])
        full = self.tracker_processor.post_process_masks(filled, sizes)[0]
        return full[:, 0].numpy().astype(bool)
