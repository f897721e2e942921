// Moving figures have the text size of still ones. A still figure is drawn 4 inches wide with 9-point text and shown
// 28rem wide (book.css), so its text is 9/72 / 4 * 28 * 16 = 14 pixels high. On a phone both shrink: there moving ones
// keep the 12 pixels that they are drawn with.
(() => {
  const SIZE = 14;
  const WIDE = 700;
  if (!window.Plotly) return;
  const draw = Plotly.newPlot;
  Plotly.newPlot = (at, data, layout = {}, config = {}) =>
    draw(at, data, window.innerWidth < WIDE ? layout : { ...layout, font: { ...layout.font, size: SIZE } }, config);
})();
