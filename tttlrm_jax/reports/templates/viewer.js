// A small splat viewer: WebGL 2, sorted on the CPU, degree-0 colour. OpenCV cameras (y down, z
// forward). Reads the .splat bytes in #splats and the scene in #scene; draws only when needed.
(() => {
  "use strict";
  const scene = JSON.parse(document.getElementById("scene").textContent);
  const host = document.getElementById("viewer");
  const canvas = host.querySelector("canvas");
  const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, preserveDrawingBuffer: true });
  if (!gl) {
    canvas.remove();
    host.querySelector(".bar").remove();
    host.querySelector(".fallback").hidden = false;
    return;
  }

  // ---- Gaussians: four texels each: mean and opacity, then covariance and colour.
  const bytes = Uint8Array.from(atob(document.getElementById("splats").textContent.trim()), (c) => c.charCodeAt(0));
  const count = bytes.length / 32, columns = 512, rows = Math.max(1, Math.ceil(count / columns));
  const floats = new Float32Array(bytes.buffer), texels = new Float32Array(columns * rows * 16);
  const means = new Float32Array(count * 3);
  for (let i = 0; i < count; i++) {
    const f = i * 8, b = i * 32, t = i * 16;
    let q = [0, 1, 2, 3].map((k) => (bytes[b + 28 + k] - 128) / 128);
    const norm = Math.hypot(...q) || 1;
    const [w, x, y, z] = q.map((v) => v / norm);
    const R = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
      2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
      2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)];
    const M = R.map((v, k) => v * floats[f + 3 + (k % 3)]);
    const cov = (r, c) => M[3 * r] * M[3 * c] + M[3 * r + 1] * M[3 * c + 1] + M[3 * r + 2] * M[3 * c + 2];
    for (let k = 0; k < 3; k++) means[3 * i + k] = texels[t + k] = floats[f + k];
    texels[t + 3] = bytes[b + 27] / 255;
    texels.set([cov(0, 0), cov(0, 1), cov(0, 2), cov(1, 1), cov(1, 2), cov(2, 2)], t + 4);
    for (let k = 0; k < 3; k++) texels[t + 12 + k] = bytes[b + 24 + k] / 255;
  }

  const vertex = `#version 300 es
  precision highp float; precision highp int;
  uniform highp sampler2D data; uniform mat3 turn; uniform vec3 eye;
  uniform vec2 focal, size; uniform float dilation, near;
  in vec2 corner; in uint index; out vec2 at; out vec4 colour;
  vec4 texel(int k) { int i = int(index); return texelFetch(data, ivec2((i % 512) * 4 + k, i / 512), 0); }
  void main() {
    vec4 head = texel(0), a = texel(1), b = texel(2);
    vec3 p = turn * (head.xyz - eye);
    gl_Position = vec4(0., 0., 2., 1.);
    if (p.z < near) return;
    mat3 S = mat3(a.x, a.y, a.z, a.y, a.w, b.x, a.z, b.x, b.y);
    vec2 limit = .65 * size / focal, ratio = clamp(p.xy / p.z, -limit, limit);
    mat3 J = mat3(focal.x / p.z, 0., 0., 0., focal.y / p.z, 0., -focal.x * ratio.x / p.z, -focal.y * ratio.y / p.z, 0.);
    mat3 T = J * turn, C = T * S * transpose(T);
    float x = C[0][0] + dilation, y = C[0][1], z = C[1][1] + dilation;
    float mid = .5 * (x + z), gap = sqrt(max(.25 * (x - z) * (x - z) + y * y, 1e-12));
    float big = mid + gap, small = max(mid - gap, 1e-6);
    vec2 axis = abs(y) > 1e-9 ? normalize(vec2(y, big - x)) : (x >= z ? vec2(1., 0.) : vec2(0., 1.));
    at = corner * 3.33;
    vec2 offset = at.x * sqrt(big) * axis + at.y * sqrt(small) * vec2(-axis.y, axis.x);
    vec2 ndc = (focal * p.xy / p.z + offset) * 2. / size;
    gl_Position = vec4(ndc.x, -ndc.y, 0., 1.);
    colour = vec4(texel(3).rgb, head.a);
  }`;
  const fragment = `#version 300 es
  precision highp float; in vec2 at; in vec4 colour; out vec4 result;
  void main() {
    float alpha = min(.99, colour.a * exp(-.5 * dot(at, at)));
    if (alpha < 1. / 255.) discard;
    result = vec4(colour.rgb * alpha, alpha);
  }`;
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  const uniform = (name) => gl.getUniformLocation(program, name);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, columns * 4, rows, 0, gl.RGBA, gl.FLOAT, texels);
  const corner = gl.getAttribLocation(program, "corner"), index = gl.getAttribLocation(program, "index");
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
  gl.enableVertexAttribArray(corner);
  gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.enableVertexAttribArray(index);
  gl.vertexAttribIPointer(index, 1, gl.UNSIGNED_INT, 0, 0);
  gl.vertexAttribDivisor(index, 1);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  gl.clearColor(...scene.background, 1);

  // ---- Camera: R = world_from_camera, column-major triples of right, down, forward.
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const add = (a, b, s = 1) => a.map((v, k) => v + s * b[k]);
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const rotate = (v, axis, angle) => {
    const c = Math.cos(angle), s = Math.sin(angle), d = dot(axis, v) * (1 - c), w = cross(axis, v);
    return v.map((value, k) => value * c + w[k] * s + axis[k] * d);
  };
  let view, chosen = 0, touched = matchMedia("(prefers-reduced-motion: reduce)").matches, dirty = true;
  const label = host.querySelector(".label");
  function choose(k) {
    chosen = (k + scene.cameras.length) % scene.cameras.length;
    const { pose, intrinsics, height, width, name, role } = scene.cameras[chosen];
    const column = (j) => [pose[0][j], pose[1][j], pose[2][j]];
    const eye = column(3), forward = column(2);
    const depth = Math.max(dot(add(scene.centre, eye, -1), forward), scene.radius * 0.05);
    view = { axes: [column(0), column(1), forward], eye, pivot: add(eye, forward, depth), intrinsics, height, width };
    label.textContent = `${role}: ${name}`;
    dirty = true;
  }
  function orbit(yaw, pitch) {
    for (const [axis, angle] of [[scene.up, yaw], [view.axes[0], pitch]]) {
      view.eye = add(view.pivot, rotate(add(view.eye, view.pivot, -1), axis, angle));
      view.axes = view.axes.map((v) => rotate(v, axis, angle));
    }
    dirty = true;
  }
  function pan(dx, dy) {
    const shift = add(view.axes[0].map((v) => v * dx), view.axes[1], dy);
    view.eye = add(view.eye, shift);
    view.pivot = add(view.pivot, shift);
    dirty = true;
  }
  function zoom(factor) {
    view.eye = add(view.pivot, add(view.eye, view.pivot, -1), factor);
    dirty = true;
  }

  // ---- Depth order by counting sort, far to near.
  const keys = new Uint16Array(count), order = new Uint32Array(count), starts = new Uint32Array(65537);
  function sort() {
    const [x, y, z] = view.axes[2];
    let low = Infinity, high = -Infinity;
    const depth = sort.depth || (sort.depth = new Float32Array(count));
    for (let i = 0, k = 0; i < count; i++, k += 3) {
      const d = (depth[i] = x * means[k] + y * means[k + 1] + z * means[k + 2]);
      if (d < low) low = d;
      if (d > high) high = d;
    }
    const scale = 65535 / Math.max(high - low, 1e-12);
    starts.fill(0);
    for (let i = 0; i < count; i++) starts[(keys[i] = ((high - depth[i]) * scale) | 0) + 1]++;
    for (let k = 0; k < 65536; k++) starts[k + 1] += starts[k];
    for (let i = 0; i < count; i++) order[starts[keys[i]]++] = i;
    gl.bufferData(gl.ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
  }
  function draw() {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT);
    sort();
    const fit = Math.min(width / view.width, height / view.height), [right, down, forward] = view.axes;
    gl.uniformMatrix3fv(uniform("turn"), false, [0, 1, 2].flatMap((k) => [right[k], down[k], forward[k]]));
    gl.uniform3fv(uniform("eye"), view.eye);
    gl.uniform2f(uniform("focal"), view.intrinsics[0] * fit, view.intrinsics[1] * fit);
    gl.uniform2f(uniform("size"), width, height);
    gl.uniform1f(uniform("dilation"), scene.dilation * fit * fit);
    gl.uniform1f(uniform("near"), scene.radius * 0.01);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
  }

  // ---- Hands: drag turns, two fingers or the wheel zoom, shift-drag moves.
  const pointers = new Map();
  const spread = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    touched = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const before = pointers.size === 2 ? spread() : 0;
    const dx = event.clientX - last[0], dy = event.clientY - last[1];
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size === 2) zoom(before / Math.max(spread(), 1));
    else if (event.shiftKey || event.buttons === 2) {
      const unit = Math.hypot(...add(view.eye, view.pivot, -1)) / canvas.clientHeight;
      pan(-dx * unit, -dy * unit);
    } else orbit(-dx * 0.006, -dy * 0.006);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); touched = true; zoom(Math.exp(event.deltaY * 0.001)); }, { passive: false });
  host.querySelector(".previous").onclick = () => { touched = true; choose(chosen - 1); };
  host.querySelector(".next").onclick = () => { touched = true; choose(chosen + 1); };
  new ResizeObserver(() => { dirty = true; }).observe(canvas);

  choose(scene.first);
  let sway = 0;
  const begin = performance.now();
  requestAnimationFrame(function frame(now) {
    if (!touched) {
      const wanted = 0.35 * Math.sin((now - begin) / 2600);
      orbit(wanted - sway, 0);
      sway = wanted;
    }
    if (dirty) { dirty = false; draw(); }
    requestAnimationFrame(frame);
  });
})();
