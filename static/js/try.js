// Talks to the agent, by voice or by typing: opens the microphone and the call's socket, plays what comes, and shows
// what is said, with the times. In the admin it sends the form's values first. The page has all its texts.
"use strict";
for (const panel of document.querySelectorAll(".try")) {
  const RATE = 16000; // Hz, of the call
  const SPEECH = 0.01; // loudness, 0 to 1, above which somebody speaks
  const SILENT_MS = 8000; // of a microphone, until it is said that nothing is heard
  const part = (name) => panel.querySelector(`[data-part="${name}"]`);
  const problems = [...panel.querySelectorAll("[data-problem]")];
  const turns = new Map(); // by number, what is shown of it

  let socket = null;
  let ears = null; // the microphone: {context, stream, node}
  let mouth = null; // the speaker: {context, node}
  let callId = "";
  let interim = null; // what is understood so far
  let spokeAt = 0; // when the microphone was last loud, in ms
  let soundedAt = 0; // and the agent
  let openedAt = 0; // the microphone
  let waited = null; // ms from one to the other, until an answer takes it
  let answer = null; // the answer that has not been heard yet, as {turn, item}

  // --- What is shown -------------------------------------------------------------------------------------------

  const say = (text) => (part("status").textContent = text);
  const show = (state) => {
    panel.dataset.state = state;
    part("say").hidden = state !== "typing";
  };
  function problem(name) {
    for (const each of problems) each.hidden = each.dataset.problem !== name;
  }

  function element(tag, name, text) {
    const made = document.createElement(tag);
    made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function add(kind, by) {
    const item = element("li", `try-turn ${kind}`);
    item.said = element("p", "try-said");
    item.said.dir = "auto";
    item.append(element("p", "try-by", by), item.said);
    part("talked").append(item);
    part("empty").hidden = true;
    return item;
  }

  function clear() {
    turns.clear();
    interim = waited = answer = null;
    spokeAt = soundedAt = 0;
    callId = "";
    part("talked").replaceChildren();
    part("empty").hidden = false;
    part("over").hidden = true;
    problem("");
  }

  function inSight(item) {
    const list = part("talked");
    if (list.lastElementChild === item) list.scrollTop = list.scrollHeight;
  }

  const TIMES = [["end_of_turn_ms", "end of turn"], ["stt_ms", "heard"], ["llm_ms", "thought"], ["tts_ms", "voice"]];

  function showTimes(turn, item) {
    if (turn.total_ms === null) return;
    if (item.waited === undefined) answer = { turn, item };
    if (answer && waited !== null) {
      answer.item.waited = waited;
      answer = waited = null;
    }
    const known = TIMES.filter(([name]) => turn[name] !== null).map(([name, label]) => `${label} ${turn[name]}`);
    const heard = item.waited === undefined ? "" : `, at your ear after ${item.waited} ms`;
    item.took = item.took || item.appendChild(element("p", "try-took"));
    item.took.textContent = `answered after ${turn.total_ms} ms${heard}${known.length ? ` (${known.join(", ")})` : ""}`;
  }

  function onTurn(turn) {
    if (turn.speaker === "caller" && interim) {
      interim.remove();
      interim = null;
    }
    const item = turns.get(turn.index) || add(turn.speaker, turn.speaker === "caller" ? "You" : "Agent");
    turns.set(turn.index, item);
    item.said.textContent = turn.text;
    item.classList.toggle("cut", turn.interrupted);
    item.querySelector(".try-by").textContent =
      (turn.speaker === "caller" ? "You" : "Agent") + (turn.interrupted ? " · interrupted" : "");
    showTimes(turn, item);
    inSight(item);
  }

  function onHeard(text) {
    interim = interim || add("caller interim", "You");
    interim.said.textContent = text;
    inSight(interim);
  }

  function note(text) {
    const item = add("note", "⚠");
    item.said.textContent = text;
    inSight(item);
  }

  function refused(why) {
    part("why").textContent = why;
    problem("refused");
  }

  const MESSAGES = {
    configured: (message) => {
      callId = message.call_id;
      say(panel.dataset.state === "typing" ? "Write to the agent." : "Talk to the agent. You may interrupt it.");
    },
    turn: onTurn,
    heard: (message) => onHeard(message.text),
    interrupted: () => mouth?.node.port.postMessage("stop"),
    note: (message) => note(message.text),
    error: (message) => (callId ? note(message.message) : refused(message.message)),
  };

  // --- Sound ---------------------------------------------------------------------------------------------------

  // The meters are of decibels, from -60 to 0.
  const decibels = (level) => Math.max(0, 1 + Math.log10(level + 1e-6) / 3);
  // A meter falls slower than it rises.
  const meter = (name, level) => {
    const each = part(name);
    each.value = Math.max(decibels(level), each.value - 0.03);
  };

  async function node(context, name) {
    await context.audioWorklet.addModule(panel.dataset.worklets);
    return new AudioWorkletNode(context, name, { numberOfInputs: name === "ears" ? 1 : 0, numberOfOutputs: 1 });
  }

  async function openMouth() {
    if (mouth) return mouth.context.resume();
    const context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    mouth = { context, node: await node(context, "mouth") };
    mouth.node.connect(context.destination);
    mouth.node.port.onmessage = ({ data }) => {
      meter("agent", data.level);
      if (data.level <= SPEECH) return;
      const now = performance.now();
      const answers = spokeAt > soundedAt;
      soundedAt = now;
      if (!answers) return;
      waited = Math.round(now - spokeAt + 1000 * (context.outputLatency || 0));
      if (answer) showTimes(answer.turn, answer.item);
    };
    await useSpeaker();
    return context.resume();
  }

  async function useSpeaker() {
    const chosen = part("speakers").value;
    if (mouth?.context.setSinkId && chosen) await mouth.context.setSinkId(chosen).catch(() => {});
  }

  // Throws the name of what is wrong, of those the page can explain.
  async function openEars() {
    if (!navigator.mediaDevices) throw "insecure";
    const chosen = part("microphones").value;
    const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
    if (chosen) wanted.deviceId = { exact: chosen };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    } catch (error) {
      throw { NotAllowedError: "denied", NotFoundError: "none", OverconstrainedError: "none" }[error.name] || "busy";
    }
    closeEars();
    const context = new AudioContext({ latencyHint: "interactive" });
    ears = { context, stream, node: await node(context, "ears") };
    context.createMediaStreamSource(stream).connect(ears.node);
    openedAt = performance.now();
    ears.node.port.onmessage = ({ data }) => onMicrophone(data);
    part("microphone-name").textContent = stream.getAudioTracks()[0].label || "the microphone";
    await listDevices();
    return context.resume();
  }

  function closeEars() {
    if (!ears) return;
    for (const track of ears.stream.getTracks()) track.stop();
    ears.context.close();
    ears = null;
    part("you").value = 0;
  }

  function onMicrophone({ pcm, level }) {
    meter("you", level);
    const now = performance.now();
    if (level > SPEECH) [spokeAt, waited] = [now, null];
    const talks = socket?.readyState === WebSocket.OPEN && panel.dataset.state === "talking";
    if (!talks) return;
    socket.send(pcm);
    const shown = problems.find((each) => each.dataset.problem === "silent");
    shown.hidden = now - Math.max(spokeAt, soundedAt, openedAt) < SILENT_MS;
  }

  async function listDevices() {
    const found = await navigator.mediaDevices.enumerateDevices();
    offer(part("microphones"), found.filter(({ kind }) => kind === "audioinput"));
    const speakers = found.filter(({ kind }) => kind === "audiooutput");
    offer(part("speakers"), speakers);
    part("speaker-choice").hidden = !speakers.length || !("setSinkId" in AudioContext.prototype);
  }

  function offer(select, devices) {
    const chosen = select.value;
    const named = devices.filter(({ deviceId, label }) => deviceId && label);
    select.replaceChildren(select.options[0], ...named.map(({ deviceId, label }) => new Option(label, deviceId)));
    select.value = named.some(({ deviceId }) => deviceId === chosen) ? chosen : "";
  }

  async function checkSound() {
    const told = part("checked");
    problem("");
    try {
      await openMouth();
      if (!ears) await openEars();
      const wav = await fetch(panel.dataset.sentence, { credentials: "same-origin" });
      if (!wav.ok) throw "sentence";
      told.textContent = "Playing … speak now, too.";
      const began = performance.now();
      const pcm = (await wav.arrayBuffer()).slice(44); // behind the header
      const seconds = pcm.byteLength / 2 / RATE;
      mouth.node.port.postMessage(pcm, [pcm]);
      await new Promise((done) => setTimeout(done, 1000 * seconds + 1500));
      told.textContent =
        (spokeAt > began + 100 ? "✓ The microphone hears something. " : `✗ “${part("microphone-name").textContent}” heard nothing: it is muted, or the wrong one. Choose another above. `) +
        "If you heard the sentence, the speaker is fine. If you did not, and the agent's meter moved, the speaker is off, or another one is in use.";
    } catch (name) {
      if (typeof name === "string") problem(name);
      told.textContent = "It could not be tried.";
    }
    if (!socket) closeEars();
  }

  // --- The call ------------------------------------------------------------------------------------------------

  // What the socket is asked for: the profile, or a ticket for the form's values. Null if those have mistakes.
  async function wanted() {
    const address = panel.dataset.values;
    if (!address) return { profile: part("profile")?.value ?? panel.dataset.profile };
    const form = document.querySelector("form[id$=_form]");
    const answer = await fetch(address, { method: "POST", body: new FormData(form), credentials: "same-origin" });
    if (!answer.ok || answer.redirected) throw "The form's values could not be sent. Is your login still valid?";
    const { ticket, mistakes } = await answer.json();
    if (ticket) return { ticket };
    part("mistakes").replaceChildren(...mistakes.map(({ field, error }) => element("li", "", `${field}: ${error}`)));
    problem("mistakes");
    return null;
  }

  async function begin(mode) {
    if (panel.dataset.state !== "idle") return;
    clear();
    show("beginning");
    say("Connecting …");
    try {
      if (mode === "talk") await Promise.all([openMouth(), openEars()]);
      const asked = await wanted();
      if (asked) return connect(new URLSearchParams({ ...asked, mode }), mode);
    } catch (what) {
      if (problems.some((each) => each.dataset.problem === what)) problem(what);
      else refused(typeof what === "string" ? what : "The server does not answer.");
    }
    end("");
  }

  function connect(query, mode) {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}/ws/try/?${query}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      show(mode === "talk" ? "talking" : "typing");
      if (mode === "type") part("text").focus();
    };
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") return mouth?.node.port.postMessage(data, [data]);
      const message = JSON.parse(data);
      MESSAGES[message.type]?.(message);
    };
    socket.onclose = () => {
      const began = panel.dataset.state !== "beginning";
      if (!began) refused("The server did not let the browser in: your login may have expired. Load the page again.");
      end(began && callId ? "The agent has ended the call." : "");
    };
  }

  function hangUp() {
    if (!socket) return;
    socket.onclose = null;
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "hang_up" }));
    socket.close();
    mouth?.node.port.postMessage("stop");
    end("You hung up.");
  }

  function end(text) {
    socket = null;
    closeEars();
    problems.find((each) => each.dataset.problem === "silent").hidden = true;
    show("idle");
    say(text);
    const over = part("over");
    over.hidden = !callId || !panel.dataset.call;
    if (over.hidden) return;
    const link = element("a", "", "See the call's page");
    link.href = `${panel.dataset.call}${callId}/`;
    over.replaceChildren(link);
  }

  function send() {
    const box = part("text");
    const text = box.value.trim();
    if (!text || panel.dataset.state !== "typing") return;
    socket.send(JSON.stringify({ type: "say", text }));
    box.value = "";
    box.focus();
  }

  part("talk").addEventListener("click", () => begin("talk"));
  part("type").addEventListener("click", () => begin("type"));
  part("hang-up").addEventListener("click", hangUp);
  part("send").addEventListener("click", send);
  part("text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // it may stand in a form
    send();
  });
  part("check").addEventListener("click", checkSound);
  part("microphones").addEventListener("change", () => ears && openEars().catch(problem));
  part("speakers").addEventListener("change", useSpeaker);
  addEventListener("pagehide", hangUp);

  part("host").textContent = location.hostname;
  if (!window.isSecureContext) {
    problem("insecure");
    part("talk").disabled = true;
    part("check").disabled = true;
  }
}
