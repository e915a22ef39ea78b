(() => {
  "use strict";
  const root = document.documentElement;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const themes = read("themes");
  const night = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");
  const touch = matchMedia("(pointer: coarse)");
  const plots = [...document.querySelectorAll(".plot")];
  const figures = new Map(); // plot → its figure, once drawn
  const LEGEND_ROW = 20; // px
  const SUBPLOT = 240; // px, as narrow as one of several side by side may be
  let chosen = null;
  let printing = false;

  const theme = () => (printing ? "light" : chosen || (night.matches ? "dark" : "light"));

  // Plots -----------------------------------------------------------------------------------------------

  function axes(layout, letter) {
    const names = Object.keys(layout).filter((key) => new RegExp(`^${letter}axis\\d*$`).test(key));
    return names.map((name) => layout[name]);
  }

  // Subplots side by side keep a readable width and scroll within their frame.
  function columns(layout) {
    const starts = axes(layout, "x").filter((axis) => axis.domain && !axis.overlaying).map((axis) => axis.domain[0]);
    return Math.max(1, new Set(starts).size);
  }

  // The legend's rows as Plotly will set them: columns as wide as the longest name.
  function legendRows(data, width) {
    const names = data.filter((trace) => trace.name && trace.showlegend !== false).map((trace) => trace.name.length);
    if (names.length < 2) return 0;
    return Math.ceil(names.length / Math.max(1, Math.floor(width / (52 + 7 * Math.max(...names)))));
  }

  // A slider stays within the frame when the subplots scroll in it.
  function fitSliders(layout, plot) {
    const seen = plot.parentElement.clientWidth / Math.max(plot.clientWidth, parseFloat(plot.style.minWidth));
    if (seen >= 1) return;
    layout.sliders.forEach((slider) => {
      if (layout.updatemenus) slider.x = 0.22; // buttons stand before it
      slider.len = Math.min(slider.len, seen - slider.x - 0.16);
    });
  }

  // What a figure's own menus changed outlives a redraw: in the traces Plotly keeps it, in the layout we do.
  function put(target, path, value) {
    const keys = path.replace(/\[(\d+)\]/g, ".$1").split(".");
    const last = keys.pop();
    keys.reduce((at, key) => (at[key] ??= {}), target)[last] = value;
  }

  function keepEdits(plot, figure) {
    plot.on("plotly_buttonclicked", ({ menu, button, active }) => {
      if (button.method === "animate") return;
      figure.edits = { ...figure.edits, ...button.args[1], [`updatemenus[${menu._index}].active`]: active };
    });
  }

  function layoutFor(plot, figure) {
    const layout = structuredClone(figure.layout);
    layout.template = themes[theme()];
    layout.uirevision = "kept"; // zoom and hidden traces outlive a change of theme
    Object.entries(figure.edits || {}).forEach(([path, value]) => put(layout, path, value));
    layout.autosize = true;
    delete layout.width;
    if (touch.matches) layout.dragmode = false; // a finger scrolls the page
    if (printing) layout.width = 680;
    const small = narrow.matches && !printing;
    const rows = layout.showlegend === false ? 0 : legendRows(figure.data, layout.width || plot.clientWidth);
    layout.height = Math.round(figure.height * (small ? 0.85 : 1)) + LEGEND_ROW * (small ? rows : Math.max(0, rows - 1));
    if (layout.sliders && plot.style.minWidth) fitSliders(layout, plot);
    if (small) {
      layout.legend = { ...layout.legend, orientation: "h", x: 0, xanchor: "left", y: 0, yanchor: "bottom", yref: "container" };
      layout.font = { ...layout.font, size: 11.5 };
    }
    return layout;
  }

  function draw(plot) {
    if (!figures.has(plot)) {
      const figure = read(plot.id + "-figure");
      figures.set(plot, { ...figure, height: figure.layout.height || parseInt(plot.style.height, 10) });
    }
    const figure = figures.get(plot);
    const first = !plot.on;
    const wide = columns(figure.layout);
    plot.style.minWidth = wide > 1 && !printing ? `${SUBPLOT * wide}px` : "";
    const layout = layoutFor(plot, figure);
    plot.style.height = `${layout.height}px`;
    const config = {
      displaylogo: false,
      showSendToCloud: false, // Plotly 4 would show a button that uploads the chart
      plotlyServerURL: "",
      responsive: true,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { format: "svg", filename: plot.closest("figure").querySelector("h3").textContent },
    };
    const drawn = Plotly.react(plot, { data: figure.data, layout, config, frames: figure.frames });
    if (first) keepEdits(plot, figure);
    return drawn;
  }

  // Plotly breaks the promise of an animation that is paused, and gives no reason.
  addEventListener("unhandledrejection", (event) => event.reason === undefined && event.preventDefault());

  const redraw = () => figures.forEach((_, plot) => draw(plot));

  const near = new IntersectionObserver(
    (entries) =>
      entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
        near.unobserve(entry.target);
        draw(entry.target);
      }),
    { rootMargin: "500px 0px" },
  );
  plots.forEach((plot) => near.observe(plot));
  narrow.addEventListener("change", redraw);

  addEventListener("beforeprint", () => {
    printing = true;
    document.querySelectorAll(".reproduce").forEach((details) => (details.open = true));
    plots.forEach(draw);
  });
  addEventListener("afterprint", () => {
    printing = false;
    redraw();
  });

  // Theme -----------------------------------------------------------------------------------------------

  const toggle = document.getElementById("theme");

  function retheme() {
    if (chosen) root.dataset.theme = chosen;
    const other = theme() === "dark" ? "Light" : "Dark";
    toggle.lastElementChild.textContent = other;
    toggle.setAttribute("aria-label", `${other} theme`);
    figures.forEach((_, plot) => Plotly.relayout(plot, { template: themes[theme()] }));
  }
  toggle.addEventListener("click", () => {
    chosen = theme() === "dark" ? "light" : "dark";
    retheme();
  });
  night.addEventListener("change", retheme);
  retheme();

  // A link leads to a heading below the bar, which is as high as its links need.
  const bar = document.querySelector(".bar");
  new ResizeObserver(() => (root.style.scrollPaddingTop = `${bar.offsetHeight + 16}px`)).observe(bar);

  // Tables ----------------------------------------------------------------------------------------------

  function value(row, column) {
    const cell = row.cells[column];
    const number = cell.dataset.value;
    return number === undefined ? cell.textContent : Number(number.replace("inf", "Infinity"));
  }
  const absent = (key) => Number.isNaN(key) || key === "—";

  function sort(header) {
    const table = header.closest("table");
    const down = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    [...header.parentElement.cells].forEach((cell) => cell.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down < 0 ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [value(row, header.cellIndex), row]);
    rows.sort(([a], [b]) => {
      if (absent(a) || absent(b)) return absent(a) - absent(b); // what is missing stays last
      if (typeof a === "number" && typeof b === "number") return a === b ? 0 : down * (a < b ? -1 : 1);
      return down * String(a).localeCompare(String(b), "en", { numeric: true });
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  // Copies ----------------------------------------------------------------------------------------------

  async function toClipboard(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const field = document.createElement("textarea"); // pages served without TLS have no clipboard
      field.value = text;
      document.body.append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      return done;
    }
  }

  async function copy(button) {
    const label = button.textContent;
    const words = (await toClipboard(read(button.dataset.from))) ? "Copied" : "Select and copy by hand";
    button.textContent = words;
    document.getElementById("said").textContent = words;
    button.focus();
    setTimeout(() => (button.textContent = label), 1500);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button && button.matches(".sort")) sort(button.parentElement);
    if (button && button.matches(".copy")) copy(button);
  });
})();
