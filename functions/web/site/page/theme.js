// The theme of the user's setting, before the first paint. The rest of the settings comes with the page.
try {
  const theme = localStorage.getItem("aideer.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* the system's theme */ }
