// Viewer of moving skeletons: own projection on a 2D canvas, no library, no network. Z up, metres.
(() => {
"use strict";

const SPEEDS = [0.1, 0.25, 0.5, 1, 2];
const PITCH = 0.16, LENS = 0.5; // radians above the horizon; half the height of the picture at distance 1
const SIDE_JOINTS = /^[LR](?=[A-Z])/;
const TRUNK_M = 0.075, LIMB_M = 0.06, HAND_M = 0.042, FAINT_M = 0.026, HEAD_M = 0.18;
const ICONS = {
  play: "M8 5.2v13.6a1 1 0 0 0 1.5.86l11-6.8a1 1 0 0 0 0-1.72l-11-6.8A1 1 0 0 0 8 5.2Z",
  pause: "M7 4.5h3.2v15H7zM13.8 4.5H17v15h-3.2z",
  reset: "M12 5a7 7 0 1 1-6.7 9h2.1A5 5 0 1 0 12 7v3L7.5 6 12 2Z",
};
const KEYS = [["space", "play"], ["←", "→", "frame"], ["shift ←", "→", "second"], ["home", "end", "first, last"],
  ["[", "]", "speed"], ["W", "A", "S", "D", "turn"], ["+", "−", "zoom"], ["R", "reset"]];

// ---------------------------------------------------------------- data

function unpacked({ steps, type, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const whole = type === "i2" ? new Int16Array(bytes.buffer) : new Int32Array(bytes.buffer);
  const lowest = type === "i2" ? -32768 : -2147483648;
  return Float32Array.from(whole, (number) => (number === lowest ? NaN : number / steps));
}

function sideOf(tree, joint) {
  return tree.left.includes(joint) ? "left" : tree.right.includes(joint) ? "right" : "middle";
}

function bonesOf(tree) {
  const bones = [];
  tree.parents.forEach((parent, child) => {
    if (parent < 0) return;
    const name = tree.joints[child].replace(SIDE_JOINTS, "");
    const width = sideOf(tree, child) === "middle" ? TRUNK_M : /Wrist|Foot|Eye|Ear/.test(name) ? HAND_M : LIMB_M;
    bones.push({ parent, child, side: sideOf(tree, child), width });
  });
  return bones;
}

function bodyOf(raw, number, several) {
  const tree = raw.skeleton;
  return {
    ...raw,
    hue: raw.faint ? "faint" : several ? `p${number % 8}` : "one",
    count: tree.joints.length,
    bones: bonesOf(tree),
    head: tree.joints.findIndex((name) => name === "Head"),
    joints: unpacked(raw.joints),
    shown: true,
    flat: raw.pixels && { bones: bonesOf(raw.inSkeleton), count: raw.inSkeleton.joints.length,
      tree: raw.inSkeleton, pixels: unpacked(raw.pixels) },
  };
}

function loaded(raw) {
  const persons = raw.bodies.filter((body) => !body.faint).length;
  let number = 0;
  return {
    ...raw,
    centre: unpacked(raw.centre),
    error: raw.error && unpacked(raw.error),
    bodies: raw.bodies.map((body) => bodyOf(body, body.faint ? 0 : number++, persons > 1)),
    several: persons > 1,
  };
}

// ---------------------------------------------------------------- drawing

function coloursOf(element) {
  const style = getComputedStyle(element);
  const cache = {};
  return (name) => (cache[name] ??= style.getPropertyValue(`--pl-${name}`).trim());
}

function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const across = Math.round(width * ratio), down = Math.round(height * ratio);
  if (canvas.width !== across || canvas.height !== down) Object.assign(canvas, { width: across, height: down });
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.lineCap = pen.lineJoin = "round";
  return { pen, width, height };
}

function farEnough(scene, width, height) {
  const aspect = Math.min(width, height * 2.2) / Math.max(1, height);
  return Math.max((scene.halfHeight * 1.12) / LENS, (scene.radius * 1.05) / (LENS * aspect)) + (scene.radius - 0.5) * 0.8;
}

function projector(view, centre, away, width, height) {
  const cos = Math.cos(view.yaw), sin = Math.sin(view.yaw), level = Math.cos(view.pitch), tilt = Math.sin(view.pitch);
  const focal = height / (2 * LENS), distance = away * view.zoom;
  return (x, y, z) => {
    const dx = x - centre[0], dy = y - centre[1], dz = z - centre[2];
    const right = dx * cos + dy * sin, ahead = dy * cos - dx * sin;
    const depth = distance + level * ahead - tilt * dz;
    const scale = focal / Math.max(depth, 0.05);
    return { x: width / 2 + right * scale, y: height / 2 - (tilt * ahead + level * dz) * scale, depth, scale };
  };
}

function line(pen, a, b, colour, width) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.beginPath();
  pen.moveTo(a.x, a.y);
  pen.lineTo(b.x, b.y);
  pen.stroke();
}

function dot(pen, at, colour, diameter) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(at.x, at.y, diameter / 2, 0, 2 * Math.PI);
  pen.fill();
}

function drawGround(pen, at, centre, radius, colours) {
  const half = Math.min(12, Math.ceil(radius * 2.2)), x0 = Math.round(centre[0]), y0 = Math.round(centre[1]);
  const strip = (ax, ay, bx, by, wide) => {
    const a = at(ax, ay, 0), b = at(bx, by, 0);
    if (a.depth < 0.2 || b.depth < 0.2) return;
    const away = Math.hypot((ax + bx) / 2 - centre[0], (ay + by) / 2 - centre[1]) / (half + 0.5);
    if (away >= 1) return;
    pen.globalAlpha = (1 - away) ** 1.5 * (wide ? 1 : 0.45);
    line(pen, a, b, colours("grid"), wide ? 1.1 : 0.8);
  };
  const step = radius > 4 ? 1 : 0.5;
  for (let i = -half; i <= half; i += step) {
    for (let j = -half; j < half; j += step) {
      strip(x0 + i, y0 + j, x0 + i, y0 + j + step, Number.isInteger(i));
      strip(x0 + j, y0 + i, x0 + j + step, y0 + i, Number.isInteger(i));
    }
  }
  pen.globalAlpha = 1;
}

function placesOf(body, frame, at, flat) {
  const places = [];
  for (let joint = 0; joint < body.count; joint++) {
    const first = (frame * body.count + joint) * 3;
    const x = body.joints[first], y = body.joints[first + 1], z = body.joints[first + 2];
    places.push(Number.isFinite(x + y + z) ? at(x, y, flat ? 0 : z) : null);
  }
  return places;
}

function drawShadow(pen, body, frame, at, colours) {
  const places = placesOf(body, frame, at, true);
  const known = places.filter(Boolean);
  if (!known.length) return;
  pen.beginPath();
  for (const { parent, child } of body.bones) {
    const a = places[parent], b = places[child];
    if (!a || !b) continue;
    pen.moveTo(a.x, a.y);
    pen.lineTo(b.x, b.y);
  }
  pen.strokeStyle = colours("shadow"); // one stroke, so that it does not darken where limbs cross
  for (const share of [0.5, 1, 1.6]) {
    pen.lineWidth = Math.max(1.5, share * 0.09 * known[0].scale);
    pen.stroke();
  }
}

function strokesOf(body, frame, at) {
  const places = placesOf(body, frame, at, false);
  const strokes = [];
  for (const bone of body.bones) {
    const a = places[bone.parent], b = places[bone.child];
    if (bone.child === body.head && !body.faint) continue; // within the ball
    if (a && b && a.depth > 0.1 && b.depth > 0.1) {
      strokes.push({ a, b, depth: (a.depth + b.depth) / 2, body, side: bone.side,
        width: ((body.faint ? FAINT_M : bone.width) * (a.scale + b.scale)) / 2 });
    }
  }
  const top = places[body.head], neck = places[body.skeleton.parents[body.head]];
  if (top && neck && top.depth > 0.1 && !body.faint) {
    const between = (key) => 0.55 * top[key] + 0.45 * neck[key];
    const at = { x: between("x"), y: between("y") };
    strokes.push({ a: at, ball: true, depth: between("depth"), body, side: "middle", width: HEAD_M * between("scale") });
  }
  return strokes;
}

function drawStroke(pen, { a, b, ball, body, side, width }, colours) {
  const colour = body.faint ? colours("faint") : colours(`${body.hue}-${side}`);
  const wide = Math.max(body.faint ? 1.5 : 2.5, width);
  if (body.faint) {
    line(pen, a, b, colour, wide);
    for (const place of [a, b]) dot(pen, place, colour, wide * 1.7);
    return;
  }
  if (ball) {
    dot(pen, a, colours("edge"), wide + 2.4);
    dot(pen, a, colour, wide);
    pen.globalAlpha = 0.22;
    dot(pen, { x: a.x - wide * 0.16, y: a.y - wide * 0.18 }, "#fff", wide * 0.42);
    pen.globalAlpha = 1;
    return;
  }
  line(pen, a, b, colours("edge"), wide + 2.4);
  line(pen, a, b, colour, wide);
  const shine = wide * 0.2;
  pen.globalAlpha = 0.3;
  line(pen, { x: a.x - shine, y: a.y - shine }, { x: b.x - shine, y: b.y - shine }, "#fff", wide * 0.3);
  pen.globalAlpha = 1;
}

function drawSpace(canvas, scene, view, frame, colours) {
  const { pen, width, height } = fitted(canvas);
  const centre = scene.centre.subarray(frame * 3, frame * 3 + 3);
  const at = projector(view, centre, farEnough(scene, width, height), width, height);
  drawGround(pen, at, centre, Math.max(scene.radius, scene.halfHeight), colours);
  const shown = scene.bodies.filter((body) => body.shown);
  for (const body of shown) if (!body.faint) drawShadow(pen, body, frame, at, colours);
  const strokes = shown.flatMap((body) => strokesOf(body, frame, at));
  strokes.sort((p, q) => q.body.faint - p.body.faint || q.depth - p.depth);
  for (const stroke of strokes) drawStroke(pen, stroke, colours);
}

function frameOfPicture(scene) {
  let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { flat } of scene.bodies) {
    if (!flat) continue;
    for (let i = 0; i < flat.pixels.length; i += 2) {
      const x = flat.pixels[i], y = flat.pixels[i + 1];
      if (Number.isFinite(x + y)) [x0, y0, x1, y1] = [Math.min(x0, x), Math.min(y0, y), Math.max(x1, x), Math.max(y1, y)];
    }
  }
  if (x1 < x0) [x0, y0, x1, y1] = [0, 0, ...(scene.image ?? [1, 1])];
  const margin = Math.max(x1 - x0, y1 - y0, 1) * 0.1;
  return { x0: x0 - margin, y0: y0 - margin, width: x1 - x0 + 2 * margin, height: y1 - y0 + 2 * margin };
}

function drawPicture(canvas, scene, box, frame, colours) {
  const { pen, width, height } = fitted(canvas);
  const scale = Math.min(width / box.width, height / box.height);
  const left = (width - box.width * scale) / 2 - box.x0 * scale, top = (height - box.height * scale) / 2 - box.y0 * scale;
  const fine = Math.max(1.6, Math.min(width, height) / 150);
  if (scene.image) { // its edges, where they come into view
    pen.strokeStyle = colours("grid");
    pen.lineWidth = 1;
    pen.strokeRect(left, top, scene.image[0] * scale, scene.image[1] * scale);
  }
  for (const body of scene.bodies) {
    if (!body.flat || !body.shown) continue;
    const { flat } = body;
    const place = (joint) => {
      const first = (frame * flat.count + joint) * 2;
      return { x: left + flat.pixels[first] * scale, y: top + flat.pixels[first + 1] * scale };
    };
    const colour = (side) => colours(body.faint ? "faint" : `${body.hue}-${side}`);
    for (const { parent, child, side } of flat.bones) {
      const a = place(parent), b = place(child);
      if (Number.isFinite(a.x + a.y + b.x + b.y)) line(pen, a, b, colour(side), fine);
    }
    for (let joint = 0; joint < flat.count; joint++) {
      const at = place(joint);
      if (!Number.isFinite(at.x + at.y)) continue;
      dot(pen, at, colours("soft"), fine * 3.2);
      dot(pen, at, colour(sideOf(flat.tree, joint)), fine * 2.2);
    }
  }
}

function errorScale(error) {
  const known = error.filter(Number.isFinite);
  const sum = known.reduce((total, value) => total + value, 0);
  const most = known.reduce((high, value) => Math.max(high, value), 0);
  return { mean: known.length ? sum / known.length : NaN, top: Math.max(1, most) };
}

function drawError(canvas, scene, scale, frame, colours) {
  const { pen, width, height } = fitted(canvas);
  const inset = 8, top = 4, last = Math.max(1, scene.frames - 1);
  const x = (f) => inset + (f / last) * (width - 2 * inset);
  const y = (mm) => height - 1 - (mm / scale.top) * (height - top - 2);
  const stretches = [];
  scene.error.forEach((mm, f) => {
    if (!Number.isFinite(mm)) return;
    const latest = stretches.at(-1);
    if (latest && latest.at(-1) === f - 1) latest.push(f);
    else stretches.push([f]);
  });
  for (const own of stretches) {
    pen.beginPath();
    pen.moveTo(x(own[0]), height);
    for (const f of own) pen.lineTo(x(f), y(scene.error[f]));
    pen.lineTo(x(own.at(-1)), height);
    pen.fillStyle = colours("curve-fill");
    pen.fill();
    pen.beginPath();
    for (const f of own) pen.lineTo(x(f), y(scene.error[f]));
    pen.strokeStyle = colours("curve");
    pen.lineWidth = 1.4;
    pen.stroke();
  }
  pen.setLineDash([3, 4]);
  line(pen, { x: inset, y: y(scale.mean) }, { x: width - inset, y: y(scale.mean) }, colours("muted"), 1);
  pen.setLineDash([]);
  line(pen, { x: x(frame), y: top }, { x: x(frame), y: height }, colours("accent"), 1.5);
  const mm = scene.error[frame];
  if (Number.isFinite(mm)) {
    const at = { x: x(frame), y: y(mm) };
    dot(pen, at, colours("panel"), 9);
    dot(pen, at, colours("accent"), 6);
  }
}

// ---------------------------------------------------------------- page

function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

function legendOf(scene, redraw) {
  const list = made("div", { class: "pl-legend", role: "group", "aria-label": "bodies" });
  for (const body of scene.bodies) {
    const colours = body.faint ? ["faint"] : ["left", "right"].map((side) => `${body.hue}-${side}`);
    const dots = colours.map((colour) => made("i", { style: `background:var(--pl-${colour})` }));
    const button = made("button", { type: "button", "aria-pressed": "true", title: `show or hide ${body.name}` },
      made("span", { class: "pl-dots" }, ...dots), body.name);
    button.addEventListener("click", () => {
      body.shown = !body.shown;
      button.setAttribute("aria-pressed", String(body.shown));
      redraw();
    });
    list.append(button);
  }
  const hue = scene.several ? "p0" : "one";
  const sides = scene.several ? ["left side dark", "right side light"] : ["left side", "right side"];
  const key = made("span", { class: "pl-sides" });
  ["left", "right"].forEach((side, i) =>
    key.append(made("span", {}, made("i", { style: `background:var(--pl-${hue}-${side})` }), sides[i])));
  list.append(key);
  return list;
}

function helpLine() {
  const help = made("p", { class: "pl-help" });
  for (const words of KEYS) {
    const entry = made("span", {});
    words.slice(0, -1).forEach((word) => entry.append(made("kbd", {}, word)));
    entry.append(` ${words.at(-1)}`);
    help.append(entry);
  }
  help.append(made("span", {}, "drag to turn, wheel or pinch to zoom; grid 1 m"));
  return help;
}

function mountViewer(element, raw, { autoplay = false } = {}) {
  const scene = loaded(raw);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const last = scene.frames - 1;
  const start = { yaw: scene.yaw, pitch: PITCH, zoom: 1 };
  const view = { ...start };
  const state = { frame: 0, playing: false, speed: 1, since: 0 };
  const flat = scene.bodies.some((body) => body.flat);
  let colours = coloursOf(element), queued = false, visible = true;

  element.replaceChildren();
  element.classList.add("poselift-viewer");
  element.tabIndex = 0;
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", `3D viewer: ${scene.title}`);
  const space = made("canvas", { role: "img", "aria-label": `Moving skeletons in 3D. ${scene.caption}` });
  const picture = made("canvas", { role: "img", "aria-label": "The 2D keypoints of the same frame" });
  const play = made("button", { type: "button", class: "pl-play", "aria-label": "play" });
  const scrub = made("input", { type: "range", min: 0, max: last, step: 1, value: 0, "aria-label": "frame" });
  const readout = made("output", { class: "pl-time" });
  const speed = made("select", { "aria-label": "speed" },
    ...SPEEDS.map((factor) => made("option", { value: factor, selected: factor === 1 }, `${factor}×`)));
  const reset = made("button", { type: "button", class: "pl-reset", "aria-label": "reset the view", title: "reset the view" },
    icon("reset"));
  const curve = scene.error && made("canvas", { class: "pl-curve", role: "img" });
  const errorNow = made("output", { class: "pl-error" });
  const scale = scene.error && errorScale(scene.error);
  const box = flat && frameOfPicture(scene);

  const stage = made("div", { class: `pl-stage${flat ? " pl-both" : ""}` },
    made("figure", {}, space, made("figcaption", {}, "3D")));
  if (flat) {
    const figure = made("figure", { class: "pl-picture" }, picture, made("figcaption", {}, "2D keypoints"));
    figure.style.setProperty("--pl-aspect", `${box.width} / ${box.height}`);
    stage.append(figure);
  }
  const timeline = made("div", { class: "pl-timeline" }, play, scrub, readout);
  if (curve) {
    curve.setAttribute("aria-label", `Error over time: mean ${scale.mean.toFixed(1)} mm, largest ${scale.top.toFixed(1)} mm`);
    timeline.append(made("span", { class: "pl-axis" },
      made("span", {}, scale.top.toFixed(0)), made("b", {}, "MPJPE"), made("span", {}, "0 mm")), curve, errorNow);
  }
  element.append(
    made("header", {}, made("h2", {}, scene.title), made("p", {}, scene.caption)),
    stage,
    timeline,
    made("div", { class: "pl-foot" }, legendOf(scene, redraw), made("div", { class: "pl-tools" }, speed, reset)),
    helpLine(),
  );

  function draw() {
    queued = false;
    if (!visible) return;
    const frame = Math.floor(state.frame);
    drawSpace(space, scene, view, frame, colours);
    if (flat) drawPicture(picture, scene, box, frame, colours);
    if (curve) {
      drawError(curve, scene, scale, frame, colours);
      const mm = scene.error[frame];
      errorNow.replaceChildren(made("b", {}, Number.isFinite(mm) ? `${mm.toFixed(1)} mm` : "–"),
        made("small", {}, `mean ${scale.mean.toFixed(1)}`));
    }
    scrub.value = frame;
    scrub.setAttribute("aria-valuetext", `frame ${frame + 1} of ${scene.frames}`);
    scrub.style.setProperty("--pl-done", `${(100 * frame) / Math.max(1, last)}%`);
    readout.replaceChildren(made("b", {}, `${(frame / scene.rate).toFixed(2)} s`),
      made("small", {}, `${frame + 1} / ${scene.frames}`));
    element.dataset.frame = frame;
  }
  function redraw() {
    if (!queued) requestAnimationFrame(draw);
    queued = true;
  }
  function tick(now) {
    if (!state.playing) return;
    const passed = Math.min(0.25, (now - state.since) / 1000);
    state.since = now;
    const next = state.frame + passed * scene.rate * state.speed;
    const changed = Math.floor(next) !== Math.floor(state.frame);
    state.frame = next > scene.frames ? 0 : Math.min(next, scene.frames - 1e-6);
    if (next > scene.frames || changed) draw();
    requestAnimationFrame(tick);
  }
  function setPlaying(playing) {
    const begins = playing && !state.playing;
    state.playing = playing;
    play.replaceChildren(icon(playing ? "pause" : "play"));
    play.setAttribute("aria-label", playing ? "pause" : "play");
    element.dataset.playing = playing;
    if (begins) {
      state.since = performance.now();
      requestAnimationFrame(tick);
    }
  }
  function goTo(frame) {
    setPlaying(false);
    state.frame = Math.max(0, Math.min(last, Math.round(frame)));
    redraw();
  }
  function setSpeed(factor) {
    state.speed = factor;
    speed.value = factor;
  }
  function turn(yaw, pitch) {
    view.yaw += yaw;
    view.pitch = Math.max(-0.3, Math.min(1.5, view.pitch + pitch));
    redraw();
  }
  function zoom(factor) {
    view.zoom = Math.max(0.15, Math.min(6, view.zoom * factor));
    redraw();
  }
  function resetView() {
    Object.assign(view, start);
    redraw();
  }
  function changeSpeed(by) {
    setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, SPEEDS.indexOf(state.speed) + by))]);
  }

  play.addEventListener("click", () => setPlaying(!state.playing));
  scrub.addEventListener("input", () => goTo(Number(scrub.value)));
  speed.addEventListener("change", () => setSpeed(Number(speed.value)));
  reset.addEventListener("click", resetView);

  const keys = {
    " ": () => setPlaying(!state.playing),
    ArrowLeft: (event) => goTo(Math.floor(state.frame) - (event.shiftKey ? scene.rate : 1)),
    ArrowRight: (event) => goTo(Math.floor(state.frame) + (event.shiftKey ? scene.rate : 1)),
    Home: () => goTo(0),
    End: () => goTo(last),
    "[": () => changeSpeed(-1),
    "]": () => changeSpeed(1),
    a: () => turn(-0.1, 0), d: () => turn(0.1, 0), w: () => turn(0, 0.1), s: () => turn(0, -0.1),
    "+": () => zoom(0.9), "=": () => zoom(0.9), "-": () => zoom(1.1), r: resetView,
  };
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === speed) return;
    if (event.key === " " && event.target.tagName === "BUTTON") return; // which the button takes
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  });

  const fingers = new Map();
  space.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    space.setPointerCapture(event.pointerId);
    element.focus({ preventScroll: true });
  });
  space.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    if (others.length) {
      const span = (place) => Math.max(10, Math.hypot(place.x - others[0].x, place.y - others[0].y));
      zoom(span(before) / span(now));
    }
    const share = 1 / (others.length + 1);
    turn(-(now.x - before.x) * 0.008 * share, (now.y - before.y) * 0.006 * share);
    fingers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    space.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  space.addEventListener("wheel", (event) => {
    if (!element.contains(document.activeElement)) return; // else a page of viewers could not be scrolled
    event.preventDefault();
    zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.004));
  }, { passive: false });
  if (curve) {
    const pick = (event) => {
      const area = curve.getBoundingClientRect();
      goTo(((event.clientX - area.left - 8) / (area.width - 16)) * last);
    };
    curve.addEventListener("pointerdown", (event) => {
      curve.setPointerCapture(event.pointerId);
      pick(event);
    });
    curve.addEventListener("pointermove", (event) => event.buttons && pick(event));
  }

  const resized = new ResizeObserver(redraw);
  for (const canvas of [space, picture, curve]) if (canvas) resized.observe(canvas);
  new IntersectionObserver(([entry]) => {
    visible = entry.isIntersecting;
    redraw();
  }).observe(element);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    colours = coloursOf(element);
    redraw();
  });
  setPlaying(autoplay && !still && last > 0);
  draw();
}

function mountViewers() {
  for (const element of document.querySelectorAll(".poselift-viewer:not([data-frame])")) {
    const data = element.querySelector('script[type="application/json"]');
    if (!data) continue;
    const autoplay = element.hasAttribute("data-autoplay");
    mountViewer(element, JSON.parse(data.textContent), { autoplay });
    if (autoplay) element.focus({ preventScroll: true });
  }
}

Object.assign(window, { mountViewer, mountViewers, viewerParts: { loaded, coloursOf, drawSpace, drawPicture } });
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", mountViewers);
else mountViewers();
})();
