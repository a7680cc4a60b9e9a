"""What Cog serves: declares the inputs, calls the package, returns one file.

`cog build` reads this file without running it, so every default, bound and description below is
a plain literal (`tests/unit/test_cog_static.py` holds the rules).
"""

import os
from typing import List, Optional

from cog import BasePredictor, CancelationException, Input, Path, concurrent

from sam3_image.decode import require_download
from sam3_image.report import log_to_stdout
from sam3_image.request import Request
from sam3_image.serving import Service, errors_for_cog, require_gpu, take_over_process
from sam3_image.settings import JSON, Settings


class Predictor(BasePredictor):
    """SAM 3: find every instance of a concept, pick the object that a prompt shows, or all."""

    def setup(self) -> None:
        """Load the weights onto the device; fails with one line that says what to do."""
        settings = Settings.from_environment(os.environ)
        log_to_stdout(as_json=settings.log_format == JSON)
        require_gpu(settings)
        self.service = Service(settings)
        take_over_process(self.service.folder, CancelationException)
        self.service.start_caretaker()

    async def healthcheck(self) -> bool:
        """Return True while the device answers and files can be written."""
        return self.service.healthy()

    # So many requests may wait and run. `cog build` reads the number; elsewhere the variable
    # COG_MAX_CONCURRENCY must say it.
    @concurrent(max=16)
    async def predict(
        self,
        image: Path = Input(
            description="Image to segment: JPEG, PNG, WebP, GIF (first frame), BMP, TIFF, HEIC or AVIF",
        ),
        prompt: str = Input(
            default="person",
            description="The concept to find, in a few words (at most 500 characters; SAM 3 reads 32 tokens, lighter weights fewer). With boxes, the default means the boxes alone",
            max_length=500,
        ),
        threshold: float = Input(
            default=0.5,
            ge=0.0,
            le=1.0,
            description="Keep instances with a score above this; for task everything the default is 0.65",
        ),
        save_overlay: bool = Input(
            default=False, description="Add the overlay picture to the ZIP file"
        ),
        mask_only: bool = Input(
            default=False,
            description="The picture is a black-and-white mask instead of an overlay on the image",
        ),
        return_zip: bool = Input(
            default=True,
            description="Return a ZIP file with one PNG mask per instance, best score first; else one picture",
        ),
        mask_opacity: float = Input(
            default=0.5, ge=0.0, le=1.0, description="Opacity of the overlay, 0 to 1"
        ),
        mask_color: str = Input(
            default="green",
            choices=["green", "red", "blue", "yellow", "cyan", "magenta", "distinct"],
            description="Color of the overlay; distinct gives each instance its own",
        ),
        task: str = Input(
            default="concept",
            choices=["concept", "visual", "everything"],
            description="concept finds every instance of a text or of exemplar boxes; visual picks the object that points, a box or a mask show; everything finds all objects, unprompted",
        ),
        prompts: Optional[List[str]] = Input(
            default=None, description="Up to 16 concepts in one request, instead of prompt"
        ),
        thresholds: Optional[str] = Input(
            default=None,
            description="JSON, one threshold per entry of prompts, instead of threshold: [0.5,0.3,...]",
        ),
        boxes: Optional[str] = Input(
            default=None,
            description="JSON, [[x0,y0,x1,y1],...] in pixels of the upright image. concept: exemplars; visual: one object per box",
        ),
        box_labels: Optional[str] = Input(
            default=None,
            description="JSON, one label per exemplar box: 1 find more like this, 0 exclude what looks like this. Default: all 1",
        ),
        points: Optional[str] = Input(
            default=None,
            description="JSON, [[x,y],...] in pixels of the upright image, all on one object; or [[[x,y],...],...], one object per list. visual only",
        ),
        point_labels: Optional[str] = Input(
            default=None,
            description="JSON, one label per point, nested as they are: 1 on the object, 0 off it. Default: all 1",
        ),
        mask_image: Optional[Path] = Input(
            default=None,
            description="visual: an image of any size, stretched over image, that is white on the object, as a rough mask of it; alone or with points and a box",
        ),
        points_per_side: int = Input(
            default=32,
            ge=1,
            le=256,
            description="everything: points of the grid along each side; more find smaller objects",
        ),
        multimask_output: bool = Input(
            default=False,
            description="visual: return the three candidates of each object, best first, instead of one mask",
        ),
        mask_threshold: float = Input(
            default=0.5,
            ge=0.0,
            le=1.0,
            description="Probability above which a pixel belongs to the mask",
        ),
        nms_iou_threshold: Optional[float] = Input(
            default=None,
            ge=0.0,
            le=1.0,
            description="Drop an instance whose mask overlaps a better one by more than this IoU, across all prompts",
        ),
        nms_scope: str = Input(
            default="all",
            choices=["all", "concept"],
            description="Where nms_iou_threshold looks for better ones: all prompts, or each concept",
        ),
        max_instances: Optional[int] = Input(
            default=None, ge=1, description="Keep only the best N instances"
        ),
        min_area: Optional[int] = Input(
            default=None, ge=1, description="Drop instances whose mask has fewer pixels"
        ),
        fill_holes: Optional[int] = Input(
            default=None,
            ge=0,
            description="Fill holes of at most so many pixels in each mask; 0 fills none, also where the model fills small ones itself",
        ),
        keep_parts: str = Input(
            default="all",
            choices=["all", "largest"],
            description="largest keeps only the largest connected part of each mask",
        ),
        apply_mask: bool = Input(
            default=False,
            description="The picture is the objects cut out: transparent outside (PNG, WebP) or white (JPEG)",
        ),
        output_format: str = Input(
            default="png",
            choices=["png", "jpg", "webp"],
            description="Format of pictures; masks are always PNG",
        ),
        show_labels: bool = Input(
            default=False, description="Draw box, concept and score of each instance on the overlay"
        ),
        annotation_format: str = Input(
            default="none",
            choices=[
                "none",
                "coco",
                "coco_polygon",
                "geojson",
                "labelme",
                "polygon",
                "rle",
                "voc",
                "yolo",
            ],
            description="Add annotations for other tools to the ZIP; with return_zip false, return them alone",
        ),
        label_map: str = Input(
            default="none",
            choices=["none", "instance", "concept"],
            description="A PNG whose pixel values are numbers of instances or of concepts, 0 the background; the better score wins. In the ZIP with labels.json; with return_zip false, alone",
        ),
        input_size_percent: int = Input(
            default=100,
            ge=25,
            le=100,
            description="Resolution of the encoder in percent, for speed and memory",
        ),
        tile_size: Optional[int] = Input(
            default=None,
            ge=64,
            le=4096,
            description="Also look at square tiles of that many pixels, for small objects and for more than the model finds in one look",
        ),
        refine: bool = Input(
            default=False,
            description="Look at each instance again, more closely, for finer edges",
        ),
        reference_image: Optional[Path] = Input(
            default=None,
            description="Another image, for reference_boxes; what looks like their content is found in image",
        ),
        reference_boxes: Optional[str] = Input(
            default=None,
            description="JSON, [[x0,y0,x1,y1],...] in pixels of the upright reference_image, at most 8: examples of what to find",
        ),
        value_range: str = Input(
            default="auto",
            description="How more than 8 bits per channel become 8: auto (what the values need), type (the whole range of the file's number type), or LOW,HIGH (the values shown black and white). 8-bit images never change",
        ),
    ) -> Path:
        """Segment one image; see the README for what each input does and which go together."""
        with errors_for_cog():
            request = Request.from_filled(
                prompt=prompt,
                threshold=threshold,
                save_overlay=save_overlay,
                mask_only=mask_only,
                return_zip=return_zip,
                mask_opacity=mask_opacity,
                mask_color=mask_color,
                task=task,
                prompts=prompts,
                thresholds=thresholds,
                boxes=boxes,
                box_labels=box_labels,
                points=points,
                point_labels=point_labels,
                mask_image=mask_image,
                points_per_side=points_per_side,
                multimask_output=multimask_output,
                mask_threshold=mask_threshold,
                nms_iou_threshold=nms_iou_threshold,
                nms_scope=nms_scope,
                max_instances=max_instances,
                min_area=min_area,
                fill_holes=fill_holes,
                keep_parts=keep_parts,
                apply_mask=apply_mask,
                output_format=output_format,
                show_labels=show_labels,
                annotation_format=annotation_format,
                label_map=label_map,
                input_size_percent=input_size_percent,
                tile_size=tile_size,
                refine=refine,
                reference_image=reference_image,
                reference_boxes=reference_boxes,
                value_range=value_range,
            )
            path = require_download(image)
            if reference_image is not None:
                require_download(reference_image, "reference_image")
            if mask_image is not None:
                require_download(mask_image, "mask_image")
            result = await self.service.submit_file(path, request)
        for name, value in result.metrics.items():
            self.record_metric(name, value)
        return Path(result.path)
