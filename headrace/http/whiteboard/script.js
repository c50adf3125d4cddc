"use strict";
(() => {
  const tokenKey = "headrace-token";
  let slots, shape;
  const headers = () => {
    const token = sessionStorage.getItem(tokenKey);
    return token ? { Authorization: "Bearer " + token } : {};
  };
  const collect = () => {
    slots = new Map();
    shape = document.body.dataset.shape;
    for (const element of document.querySelectorAll("[data-slot]")) {
      const name = element.dataset.slot;
      slots.has(name) ? slots.get(name).push(element) : slots.set(name, [element]);
    }
  };
  const show = (readings) => {
    for (const [slot, text] of Object.entries(readings)) {
      const [name, attribute] = slot.split("\t");
      for (const element of slots.get(name) || []) {
        if (attribute) element.setAttribute(attribute, text);
        else element.textContent = text;
      }
    }
  };
  const page = async (token) => {
    const answer = await fetch("/", { headers: { ...headers(), ...(token && { Authorization: "Bearer " + token }), Accept: "text/html" } });
    if (!answer.ok) return answer.status;
    if (token) sessionStorage.setItem(tokenKey, token);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = fresh.title;
    document.body.replaceWith(fresh.body);
    begin();
    return 200;
  };
  const receive = (event) => {
    const lines = event.split("\n"), field = (name) => lines.filter((l) => l.startsWith(name + ": ")).map((l) => l.slice(name.length + 2)).join("\n");
    if (field("event") === "shape") { if (field("data") !== shape) page(); }
    else if (field("event") === "readings") show(JSON.parse(field("data")));
  };
  const follow = async () => {
    for (;;) {
      try {
        const answer = await fetch(document.body.dataset.feed, { headers: headers() });
        if (answer.ok) {
          const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
          for (let text = ""; ; ) {
            const { value, done } = await reader.read();
            if (done) break;
            const events = (text + value).split("\n\n");
            text = events.pop();
            events.forEach(receive);
          }
        }
      } catch { /* said by the pill below */ }
      for (const pill of document.querySelectorAll(".pill")) { pill.dataset.state = "silent"; pill.textContent = "does not answer"; }
      await new Promise((wake) => setTimeout(wake, 1500));
    }
  };
  const row = (list, name, text) => {
    list.appendChild(document.createElement("dt")).textContent = name;
    const cell = list.appendChild(document.createElement("dd"));
    cell.append(text);
  };
  const tell = async (event) => {
    const button = event.target, pane = document.querySelector(".telling");
    button.disabled = true;
    const answer = await fetch(button.dataset.from, { headers: headers() }), text = await answer.text();
    button.disabled = false;
    if (answer.ok) {
      pane.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.childNodes);
    } else {
      const found = JSON.parse(text), line = document.createElement("p");
      line.textContent = found.detail || found.title;
      pane.replaceChildren(line);
    }
    pane.hidden = false;
    pane.scrollIntoView({ block: "nearest" });
  };
  const ask = (list, text, from) => {
    const button = list.appendChild(document.createElement("button"));
    button.type = "button";
    button.textContent = text;
    button.dataset.from = from;
    button.addEventListener("click", tell);
  };
  const look = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target), pane = document.querySelector(".answer");
    const query = new URLSearchParams({ table: form.get("table"), key: form.get("key") });
    const answer = await fetch("/whiteboard/row?" + query, { headers: headers() }), found = await answer.json();
    pane.replaceChildren();
    const list = document.createElement("dl"), json = document.createElement("pre");
    if (!answer.ok) {
      json.textContent = found.detail || found.title;
    } else {
      const link = document.createElement("a");
      link.href = link.textContent = found.href;
      row(list, "Read", link);
      row(list, "Partition", String(found.partition));
      row(list, "Position", Object.entries(found.position).map(([place, offset]) => place + " " + offset.toLocaleString("en")).join(", ") || "nothing read yet");
      json.textContent = found.row === null ? "No row has this key." : found.row;
      pane.append(list);
    }
    pane.append(json);
    if (answer.ok) {
      const asking = pane.appendChild(document.createElement("div"));
      asking.className = "asking";
      ask(asking, "Why is it so?", "/whiteboard/why?" + query);
      ask(asking, "Its events", "/whiteboard/history?" + query);
    }
  };
  let isFollowing = false;
  const begin = () => {
    collect();
    const form = document.querySelector("form.lookup"), door = document.querySelector("form.door");
    if (form) form.addEventListener("submit", look);
    if (door) {
      door.addEventListener("submit", async (event) => {
        event.preventDefault();
        const status = await page(new FormData(door).get("token").trim());
        if (status !== 200) document.querySelector(".answer").textContent = "This token is not valid here.";
      });
      if (sessionStorage.getItem(tokenKey)) page();
    } else if (!isFollowing) {
      isFollowing = true;
      follow();
    }
  };
  begin();
})();
