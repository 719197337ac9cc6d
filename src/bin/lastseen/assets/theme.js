// Before the first paint, so that nothing flashes. A browser that keeps nothing follows the system.
try {
  const theme = localStorage.getItem("lastseen-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {}
