// Pointer and keys on the canvas → points and boxes.

const DRAG = 5; // pixels on the screen from which a press is a drag
const STEP = 0.025; // of the picture's shorter side, for the arrow keys

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function boxOf([x0, y0], [x1, y1]) {
  // From the outer edges of both pixels.
  return [Math.min(x0, x1) - 0.5, Math.min(y0, y1) - 0.5,
    Math.max(x0, x1) + 0.5, Math.max(y0, y1) + 0.5];
}

// point(position, isOff), box(box, isOff), hover(position or null) are called back.
export function watchPointer(canvas, stage, { point, box, hover }) {
  let press = null;

  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || press || event.button === 1) return;
    stage.cursor = null;
    press = { event, from: stage.position(event), dragged: false };
    canvas.setPointerCapture(event.pointerId);
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!press) {
      hover(stage.position(event));
      return;
    }
    const far = Math.hypot(event.clientX - press.event.clientX, event.clientY - press.event.clientY);
    press.dragged ||= far > DRAG;
    if (!press.dragged) return;
    stage.box = boxOf(press.from, stage.position(event));
    stage.draw();
  });

  canvas.addEventListener("pointerup", (event) => {
    if (!press) return;
    const isOff = event.shiftKey || press.event.button === 2;
    const { from, dragged } = press;
    end();
    if (dragged) box(boxOf(from, stage.position(event)), isOff);
    else point(from, isOff);
  });

  function end() {
    press = null;
    stage.box = null;
    stage.draw();
  }

  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => press || hover(null));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
}

export function watchKeys(canvas, stage, size, { point, box, hover }) {
  let corner = null;

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    stage.cursor ??= stage.center();
    if (arrow) {
      const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.min(...size()) * STEP));
      stage.cursor = stage.inside(stage.cursor.map((value, axis) => value + arrow[axis] * step));
      stage.box = corner && boxOf(corner, stage.cursor);
      hover(stage.cursor);
      stage.draw();
    } else if (event.key === "Enter") {
      point(stage.cursor, event.shiftKey);
    } else if (event.key === "b" || event.key === "B") {
      if (corner) {
        const drawn = boxOf(corner, stage.cursor);
        forget();
        box(drawn, event.shiftKey);
      } else {
        corner = stage.cursor;
        stage.box = boxOf(corner, corner);
        stage.draw();
      }
    } else if (event.key === "Escape" && corner) {
      forget();
      event.stopPropagation();
    } else {
      return;
    }
    event.preventDefault();
  });

  canvas.addEventListener("focus", () => {
    if (!canvas.matches(":focus-visible")) return;
    stage.cursor ??= stage.center();
    stage.draw();
  });
  canvas.addEventListener("blur", () => {
    stage.cursor = null;
    forget();
    hover(null);
  });

  function forget() {
    corner = null;
    stage.box = null;
    stage.draw();
  }
}
