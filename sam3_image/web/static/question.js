// What is asked: words and exemplars ("concept"), or the points and the box of one object
// ("visual"), as the inputs of predict().

// The request is made at this score, and the slider filters above it without another request.
export const FLOOR = 0.05;

export class Question {
  task = "concept";
  // Of each task, in the order in which they were made:
  // {point: [x, y], label} or {box: [x0, y0, x1, y1], label}, in pixels of the upright picture.
  marks = { concept: [], visual: [] };
  words = "";
  candidates = false;
  tileSize = null;
  refine = false;
  reference = null; // {picture, boxes}: examples in another picture

  get shown() {
    return this.marks[this.task];
  }

  concepts() {
    return this.words.split(/[\n,]/).map((word) => word.trim()).filter(Boolean);
  }

  isEmpty() {
    if (this.shown.length) return false;
    return this.task === "visual" || (this.concepts().length === 0 && !this.reference);
  }

  addPoint(point, label) {
    this.task = "visual";
    this.marks.visual.push({ point, label });
  }

  addBox(box, label) {
    if (this.task === "concept") {
      this.marks.concept.push({ box, label });
    } else {
      // One object has one box.
      this.marks.visual = this.marks.visual.filter((mark) => !mark.box);
      this.marks.visual.push({ box, label: 1 });
    }
  }

  undo() {
    return this.shown.pop();
  }

  // The examples of this picture go with questions about others from now on.
  keepReference(picture) {
    const boxes = this.examples().map((mark) => mark.box);
    this.reference = { picture, boxes };
  }

  examples() {
    return this.marks.concept.filter((mark) => mark.label === 1);
  }

  clear() {
    this.marks[this.task] = [];
  }

  clearAll() {
    this.marks = { concept: [], visual: [] };
  }

  // The inputs that ask for this, without a threshold.
  inputs() {
    const inputs = this.task === "concept" ? this.#find() : this.#pick();
    if (this.refine) inputs.refine = true;
    return inputs;
  }

  #find() {
    const inputs = {};
    const concepts = this.concepts();
    if (concepts.length) inputs.prompts = concepts;
    const exemplars = this.marks.concept;
    if (exemplars.length) {
      inputs.boxes = exemplars.map((mark) => mark.box);
      inputs.box_labels = exemplars.map((mark) => mark.label);
    }
    if (this.tileSize) inputs.tile_size = this.tileSize;
    if (this.reference) {
      inputs.reference_image = this.reference.picture.id;
      inputs.reference_boxes = this.reference.boxes;
    }
    return inputs;
  }

  #pick() {
    const inputs = { task: "visual" };
    const points = this.marks.visual.filter((mark) => mark.point);
    const boxes = this.marks.visual.filter((mark) => mark.box);
    if (points.length) {
      inputs.points = points.map((mark) => mark.point);
      inputs.point_labels = points.map((mark) => mark.label);
    }
    if (boxes.length) inputs.boxes = boxes.map((mark) => mark.box);
    if (this.candidates) inputs.multimask_output = true;
    return inputs;
  }

  // In words, for the person.
  toString() {
    const count = (number, one) => `${number} ${one}${number === 1 ? "" : "s"}`;
    if (this.task === "visual") {
      const boxes = this.marks.visual.filter((mark) => mark.box).length;
      const points = this.marks.visual.length - boxes;
      const parts = [points && count(points, "point"), boxes && "a box"].filter(Boolean);
      return parts.join(" and ");
    }
    const words = this.concepts().join(", ");
    const boxes = this.marks.concept.length;
    const kept = this.reference && `${count(this.reference.boxes.length, "example")} elsewhere`;
    return [words, boxes && count(boxes, "example"), kept].filter(Boolean).join(" and ");
  }
}
