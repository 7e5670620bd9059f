// A person live: what the server sends is drawn as it comes, with the viewer's own drawing.
(() => {
"use strict";

const { loaded, coloursOf, drawSpace, drawPicture } = window.viewerParts;
const START = { yaw: 0, pitch: 0.16, zoom: 1 };
const none = { steps: 1, type: "i2", data: "" };
const scene = loaded({ title: about.title, centre: none, error: null, radius: 0.9, halfHeight: 0.98, frames: 1,
  bodies: [{ name: "", faint: false, skeleton: about.skeleton, joints: none, inSkeleton: about.inSkeleton, pixels: none }] });
const [body] = scene.bodies;
scene.centre = Float32Array.of(0, 0, 0.9);
const numbers = (values) => Float32Array.from(values, (value) => (value === null ? NaN : value));
body.joints = numbers(Array(3 * body.count).fill(null));
body.flat.pixels = numbers(Array(2 * body.flat.count).fill(null));
scene.image = [1, 1];

const root = document.getElementById("live");
root.innerHTML = `<header><h2></h2><p>waiting for a frame</p></header>
<div class="pl-stage pl-both"><figure><canvas></canvas><figcaption>3D</figcaption></figure>
<figure class="pl-picture"><canvas></canvas><figcaption>2D keypoints</figcaption></figure></div>
<p class="pl-help"><span>drag to turn, double-click to reset; grid 1 m; the camera is taken as level</span></p>`;
root.querySelector("h2").textContent = about.title;
const [space, picture] = root.querySelectorAll("canvas"), said = root.querySelector("header p");
const view = { ...START }, colours = coloursOf(root);
let queued = false;

function draw() {
  queued = false;
  drawSpace(space, scene, view, 0, colours);
  const [width, height] = scene.image;
  drawPicture(picture, scene, { x0: 0, y0: 0, width, height }, 0, colours);
}
function redraw() {
  if (!queued) requestAnimationFrame(draw);
  queued = true;
}

space.addEventListener("pointermove", (event) => {
  if (!event.buttons) return;
  view.yaw -= event.movementX * 0.008;
  view.pitch = Math.max(-0.3, Math.min(1.5, view.pitch + event.movementY * 0.006));
  redraw();
});
space.addEventListener("dblclick", () => { Object.assign(view, START); redraw(); });
addEventListener("resize", redraw);

const events = new EventSource("/events");
let count = 0;
events.onmessage = ({ data }) => {
  const event = JSON.parse(data);
  body.joints = numbers(event.joints);
  body.flat.pixels = numbers(event.pixels);
  scene.image = event.image;
  count += 1;
  const stages = Object.entries(event.ms).map(([stage, ms]) => `${stage} ${ms.toFixed(0)} ms`);
  said.textContent = [`${event.time_s.toFixed(2)} s`, ...stages, body.joints.some(Number.isFinite) ? "" : "nobody seen"]
    .filter(Boolean).join("  ·  ");
  root.dataset.frame = count;
  redraw();
};
events.addEventListener("end", () => { events.close(); said.textContent += "  ·  ended"; });
events.onerror = () => { said.textContent += "  ·  no connection"; };
redraw();
})();
