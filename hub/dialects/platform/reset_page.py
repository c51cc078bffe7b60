"""The page for setting a new password after a reset: one file without external resources."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

_SCRIPT: Final = """
const form = document.querySelector("form"), said = document.querySelector("output");
const token = new URLSearchParams(location.hash.slice(1)).get("token") || "";
history.replaceState(null, "", location.pathname);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  said.textContent = "…";
  try {
    const answer = await fetch(location.pathname, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token, password: form.password.value }),
    });
    const body = await answer.json();
    const errors = Object.values(body.errors || {}).flat().join(" ");
    said.textContent = answer.ok ? "Your new password is set: sign in with it." : errors || body.message;
    form.hidden = answer.ok;
  } catch {
    said.textContent = "The server did not answer: try again.";
  }
});
"""

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 24rem; margin: 4rem auto; padding: 0 1rem; }
input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; margin: .25rem 0 1rem; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee; } }
"""

PAGE: Final = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Set a new password</title>
<style>{_STYLE}</style>
<h1>Set a new password</h1>
<form>
<label>New password <input type="password" name="password" autocomplete="new-password" required></label>
<button>Set password</button>
</form>
<output role="status"></output>
<script>{_SCRIPT}</script>
</html>
""".encode()


def _source(text: str) -> str:
    """Return the source expression that allows an inline script or style in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY: Final = (
    f"default-src 'none'; script-src {_source(_SCRIPT)}; style-src {_source(_STYLE)}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
).encode()
