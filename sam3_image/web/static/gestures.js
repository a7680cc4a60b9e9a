// Pointers, wheel and keys on the canvas → clicks, boxes, and a view that is moved.

const DRAG = 5; // pixels on the screen from which a press is a drag
const STEP = 0.025; // of the shorter side of what is seen, for the arrow keys
const PAN = 80; // pixels on the screen, for the arrow keys with Ctrl
const WHEEL = 0.0016; // zoom per pixel of the wheel; a pinch on a touchpad counts more
const PINCH = 0.01;

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function boxOf([x0, y0], [x1, y1]) {
  // From the outer edges of both pixels.
  return [Math.min(x0, x1) - 0.5, Math.min(y0, y1) - 0.5,
    Math.max(x0, x1) + 0.5, Math.max(y0, y1) + 0.5];
}

// Called back: click(position, {isOff, isAdding}), box(box, isOff), hover(position or null);
// drawsBoxes() → whether a drag draws a box, or else moves the image.
export function watchPointer(canvas, stage, actions) {
  const { view } = stage;
  const touches = new Map(); // fingers and other pointers that are down, by id: [x, y] on the canvas
  let press = null; // {event, from, isPan, isDragged}
  let isSpace = false;

  const down = (event) => {
    touches.set(event.pointerId, stage.place(event));
    canvas.setPointerCapture(event.pointerId);
    if (touches.size > 1) {
      stop(); // a second finger: both move the image
      return;
    }
    stage.cursor = null;
    const isPan = event.button === 1 || isSpace || !actions.drawsBoxes();
    press = { event, from: stage.position(event), isPan, isDragged: false };
    if (event.button === 1) event.preventDefault();
  };

  const move = (event) => {
    const before = touches.get(event.pointerId);
    if (!before) {
      actions.hover(stage.position(event));
      return;
    }
    const now = stage.place(event);
    if (touches.size > 1) pinch(event.pointerId, now);
    else if (press) drag(event, before, now);
    touches.set(event.pointerId, now);
  };

  function drag(event, before, now) {
    const far = Math.hypot(event.clientX - press.event.clientX, event.clientY - press.event.clientY);
    press.isDragged ||= far > DRAG;
    if (!press.isDragged) return;
    if (press.isPan) {
      canvas.classList.add("moving");
      view.pan(now[0] - before[0], now[1] - before[1]);
    } else {
      stage.box = boxOf(press.from, stage.position(event));
    }
    stage.draw();
  }

  function pinch(id, now) {
    const [other] = [...touches].filter(([key]) => key !== id).map(([, place]) => place);
    const before = touches.get(id);
    const between = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
    const middle = ([x, y]) => [(x + other[0]) / 2, (y + other[1]) / 2];
    view.zoom(between(now) / between(before), middle(before), middle(now));
    stage.draw();
    actions.moved();
  }

  const up = (event) => {
    touches.delete(event.pointerId);
    if (!press) return;
    const { from, isDragged, isPan, event: { button } } = press;
    stop();
    const isOff = event.shiftKey || button === 2;
    if (isDragged && !isPan) actions.box(boxOf(from, stage.position(event)), isOff);
    else if (!isDragged && button !== 1) {
      actions.click(from, { isOff, isAdding: event.shiftKey || event.ctrlKey || event.metaKey });
    }
  };

  function stop() {
    press = null;
    stage.box = null;
    canvas.classList.remove("moving");
    stage.draw();
  }

  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", (event) => {
    touches.delete(event.pointerId);
    stop();
  });
  canvas.addEventListener("pointerleave", () => touches.size || actions.hover(null));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 33 : 1;
    const rate = event.ctrlKey ? PINCH : WHEEL;
    view.zoom(Math.exp(-event.deltaY * lines * rate), stage.place(event));
    view.pan(-event.deltaX * lines, 0);
    stage.draw();
    actions.moved();
  }, { passive: false });
  for (const [kind, value] of [["keydown", true], ["keyup", false]]) {
    document.addEventListener(kind, (event) => {
      if (event.key === " " && event.target === canvas) {
        isSpace = value;
        event.preventDefault();
      }
    });
  }
}

// The crosshair: as above, and size() → [width, height] of the image.
export function watchKeys(canvas, stage, { click, box, hover, moved }) {
  let corner = null;

  canvas.addEventListener("keydown", (event) => {
    if (event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (event.ctrlKey) {
      if (!arrow) return;
      stage.view.pan(-arrow[0] * PAN, -arrow[1] * PAN);
      stage.draw();
      moved();
      event.preventDefault();
      return;
    }
    stage.cursor ??= stage.center();
    if (arrow) {
      step(arrow, event.shiftKey);
    } else if (event.key === "Enter") {
      click(stage.cursor, { isOff: event.shiftKey, isAdding: event.shiftKey });
    } else if (event.key === "b" || event.key === "B") {
      setCorner(event.shiftKey);
    } else if (event.key === "Escape" && corner) {
      forget();
      event.stopPropagation();
    } else {
      return;
    }
    event.preventDefault();
  });

  function step(arrow, isFine) {
    const [x0, y0, x1, y1] = stage.view.window;
    const [left, top] = stage.inside([x0, y0]);
    const [right, bottom] = stage.inside([x1, y1]);
    const shorter = Math.min(right - left, bottom - top) + 1;
    const length = isFine ? 1 : Math.max(1, Math.round(shorter * STEP));
    stage.cursor = stage.inside(stage.cursor.map((value, axis) => value + arrow[axis] * length));
    stage.box = corner && boxOf(corner, stage.cursor);
    stage.view.reveal(stage.cursor);
    hover(stage.cursor);
    stage.draw();
  }

  function setCorner(isOff) {
    if (corner) {
      const drawn = boxOf(corner, stage.cursor);
      forget();
      box(drawn, isOff);
    } else {
      corner = stage.cursor;
      stage.box = boxOf(corner, corner);
      stage.draw();
    }
  }

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
