// Start reveal.js once the formulas are set, and shrink what is larger than the screen: formulas, then figures, then the slide.
const formulas = new Promise((resolve) => {
  const wait = () => (window.MathJax.startup?.promise ? MathJax.startup.promise.then(resolve) : setTimeout(wait, 20));
  wait();
});

function fit() {
  const {width, height} = Reveal.getConfig();
  const slides = document.querySelector(".reveal .slides");
  slides.classList.add("measured");  // shows every slide, so that it has a size
  for (const formula of slides.querySelectorAll('mjx-container[display="true"]')) {
    const room = formula.clientWidth / formula.scrollWidth;
    if (room < 1) formula.style.fontSize = `${Math.floor(100 * room)}%`;
  }
  for (const slide of Reveal.getSlides()) {
    const figures = slide.querySelectorAll("figure img"), excess = slide.scrollHeight - height;
    for (const figure of excess > 0 ? figures : []) {
      figure.style.maxHeight = `${Math.max(260, figure.clientHeight - excess / figures.length)}px`;
    }
    const room = Math.min(height / slide.scrollHeight, width / slide.scrollWidth);
    if (room < 1) slide.style.zoom = room;
  }
  slides.classList.remove("measured");
}

formulas
  .then(() => Promise.all([...document.images].map((image) => image.decode().catch(() => {}))))
  .then(() => Reveal.initialize({
    width: 1280, height: 680, margin: 0.03, center: false, hash: true, slideNumber: "c/t", transition: "none",
    plugins: [RevealNotes],
  }))
  .then(() => {
    fit();
    Reveal.layout();
    document.body.dataset.ready = "true";
  });
