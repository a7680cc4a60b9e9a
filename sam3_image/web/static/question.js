// What is asked, as the inputs of predict(). Words and settings stay from image to image; the marks
// belong to one image: {concept: examples, visual: points and a box}, each in the order in which they
// were made: {point: [x, y], label} or {box: [x0, y0, x1, y1], label}, in pixels of the upright image.

// The request is made at this score, and the slider filters above it without another request.
export const FLOOR = 0.05;

const TASKS = { words: "concept", example: "concept", object: "visual", everything: "everything" };

export class Question {
  mode = "words";
  words = "";
  candidates = false;
  tileSize = null;
  minArea = null;
  fillHoles = null;
  keepLargest = false;
  valueRange = null; // null is auto
  refine = false;
  reference = null; // {image: {id, name, file, range}, boxes}: examples in another image

  // What stays over a reload, beside mode and words.
  settings() {
    const { tileSize, minArea, fillHoles, keepLargest, valueRange, refine } = this;
    return { tileSize, minArea, fillHoles, keepLargest, valueRange, refine };
  }

  restore(settings) {
    for (const name of Object.keys(this.settings())) this[name] = settings[name] ?? this[name];
  }

  get task() {
    return TASKS[this.mode];
  }

  concepts() {
    return this.words.split(/[\n,]/).map((word) => word.trim()).filter(Boolean);
  }

  // What a picked object is called where nothing says it better.
  name() {
    const concepts = this.concepts();
    return concepts.length === 1 ? concepts[0] : "object";
  }

  isEmpty(marks, task = this.task) {
    if (task === "everything") return false;
    if (task === "visual") return marks.visual.length === 0;
    return marks.concept.length === 0 && this.concepts().length === 0 && !this.reference;
  }

  // The inputs that ask for this, without a threshold. base: run lengths of a mask to correct.
  inputs(marks, task = this.task, base = null) {
    const inputs = { concept: () => this.#find(marks), visual: () => this.#pick(marks, base),
      everything: () => ({ task: "everything" }) }[task]();
    if (task !== "visual" && this.tileSize) inputs.tile_size = this.tileSize;
    if (this.refine) inputs.refine = true;
    if (this.minArea !== null) inputs.min_area = this.minArea;
    if (this.fillHoles !== null) inputs.fill_holes = this.fillHoles;
    if (this.keepLargest) inputs.keep_parts = "largest";
    if (this.valueRange) inputs.value_range = this.valueRange;
    return inputs;
  }

  #find({ concept: exemplars }) {
    const inputs = {};
    const concepts = this.concepts();
    if (concepts.length) inputs.prompts = concepts;
    if (exemplars.length) {
      inputs.boxes = exemplars.map((mark) => mark.box);
      inputs.box_labels = exemplars.map((mark) => mark.label);
    }
    if (this.reference) {
      inputs.reference_image = this.reference.image.id;
      inputs.reference_boxes = this.reference.boxes;
    }
    return inputs;
  }

  #pick({ visual }, base) {
    const inputs = { task: "visual" };
    const points = visual.filter((mark) => mark.point);
    const boxes = visual.filter((mark) => mark.box);
    if (points.length) {
      inputs.points = points.map((mark) => mark.point);
      inputs.point_labels = points.map((mark) => mark.label);
    }
    if (boxes.length) inputs.boxes = boxes.map((mark) => mark.box);
    if (this.candidates) inputs.multimask_output = true;
    if (base) inputs.mask_image = base;
    return inputs;
  }

  // In words, for the person.
  describe(marks, task = this.task) {
    const count = (number, one) => `${number} ${one}${number === 1 ? "" : "s"}`;
    if (task === "everything") return "the whole image";
    if (task === "visual") {
      const boxes = marks.visual.filter((mark) => mark.box).length;
      const points = marks.visual.length - boxes;
      return [points && count(points, "point"), boxes && "a box"].filter(Boolean).join(" and ");
    }
    const words = this.concepts().join(", ");
    const boxes = marks.concept.length;
    const kept = this.reference && `${count(this.reference.boxes.length, "example")} elsewhere`;
    return [words, boxes && count(boxes, "example"), kept].filter(Boolean).join(" and ");
  }
}

export const NO_MARKS = { concept: [], visual: [] };

export function withMark(marks, task, mark) {
  // One object has one box.
  const others = task === "visual" && mark.box ? marks.visual.filter(({ box }) => !box) : marks[task];
  return { ...marks, [task]: [...others, mark] };
}

export function examplesIn(marks) {
  return marks.concept.filter((mark) => mark.label === 1);
}
