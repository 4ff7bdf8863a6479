// Sound between the page and the call, in the browser's audio thread: what is heard becomes 16 kHz and leaves in
// pieces of 20 ms; what comes is kept until enough of it is there to play on while the network stalls.
"use strict";
{
  const RATE = 16000; // Hz
  const PIECE = 320; // samples, 20 ms
  const PHASES = 32; // between two samples of the microphone
  const CROSSINGS = 10; // of the filter's kernel to each side
  const CUT = 0.92; // of half the lower rate

  // The kernel of a low-pass filter, for each phase: what is above 8 kHz would come back as noise.
  function kernels(step) {
    const half = Math.ceil(CROSSINGS * Math.max(step, 1));
    const scale = CUT / Math.max(step, 1);
    return Array.from({ length: PHASES }, (_, phase) =>
      Float32Array.from({ length: 2 * half }, (_, tap) => {
        const at = tap - half + 1 - phase / PHASES;
        const x = Math.PI * at * scale;
        const window = 0.5 + 0.5 * Math.cos((Math.PI * at) / half);
        return (x === 0 ? 1 : Math.sin(x) / x) * scale * (Math.abs(at) < half ? window : 0);
      }),
    );
  }

  class Ears extends AudioWorkletProcessor {
    constructor() {
      super();
      this.step = sampleRate / RATE;
      this.kernels = kernels(this.step);
      this.taps = this.kernels[0].length;
      this.heard = new Float32Array(0); // what the kernel may still need
      this.at = 0; // in it, of the next sample to make
      this.piece = new Int16Array(PIECE);
      this.made = 0;
    }

    process([input]) {
      if (!input.length) return true;
      const heard = new Float32Array(this.heard.length + input[0].length);
      heard.set(this.heard);
      heard.set(input[0], this.heard.length);
      while (Math.floor(this.at) + this.taps < heard.length) {
        this.add(this.sample(heard));
        this.at += this.step;
      }
      const passed = Math.floor(this.at);
      this.heard = heard.slice(passed);
      this.at -= passed;
      return true;
    }

    sample(heard) {
      const first = Math.floor(this.at);
      const kernel = this.kernels[Math.floor((this.at - first) * PHASES)];
      let sum = 0;
      for (let tap = 0; tap < this.taps; tap++) sum += heard[first + tap] * kernel[tap];
      return sum;
    }

    add(sample) {
      this.piece[this.made++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.made < PIECE) return;
      const level = loudness(this.piece);
      this.port.postMessage({ pcm: this.piece.buffer, level }, [this.piece.buffer]);
      this.piece = new Int16Array(PIECE);
      this.made = 0;
    }
  }

  // Plays at 16 kHz, which is the rate of its audio context.
  class Mouth extends AudioWorkletProcessor {
    constructor() {
      super();
      this.pieces = []; // Int16Array
      this.offset = 0; // in the first of them
      this.kept = 0; // samples
      this.target = 2 * PIECE; // kept before playing begins; more while the network stalls in the middle of speech
      this.waited = 0; // samples since something was kept and not played
      this.silent = Infinity; // samples since the last was played
      this.playing = false;
      this.played = new Int16Array(PIECE);
      this.filled = 0;
      this.port.onmessage = ({ data }) => (data === "stop" ? this.stop() : this.keep(new Int16Array(data)));
    }

    stop() {
      this.pieces = [];
      this.offset = this.kept = 0;
      this.playing = false;
      this.silent = Infinity;
    }

    keep(piece) {
      if (!this.playing && !this.kept) this.target = this.silent < RATE / 10 ? Math.min(2 * this.target, RATE / 4) : 2 * PIECE;
      this.pieces.push(piece);
      this.kept += piece.length;
    }

    process(_inputs, [output]) {
      const out = output[0];
      if (!this.playing && this.kept) {
        this.waited += out.length;
        this.playing = this.kept >= this.target || this.waited >= this.target;
      }
      let n = 0;
      if (this.playing) {
        this.waited = 0;
        while (n < out.length && this.pieces.length) out[n++] = this.next() / 32768;
        this.playing = this.pieces.length > 0;
      }
      this.silent = n ? 0 : this.silent + out.length;
      this.tell(out);
      return true;
    }

    next() {
      const piece = this.pieces[0];
      const sample = piece[this.offset++];
      this.kept--;
      if (this.offset === piece.length) {
        this.pieces.shift();
        this.offset = 0;
      }
      return sample;
    }

    tell(out) {
      for (const sample of out) {
        this.played[this.filled++] = sample * 32767;
        if (this.filled === PIECE) {
          this.port.postMessage({ level: loudness(this.played) });
          this.filled = 0;
        }
      }
    }
  }

  // The root mean square, 0 to 1.
  function loudness(piece) {
    let sum = 0;
    for (const sample of piece) sum += sample * sample;
    return Math.sqrt(sum / piece.length) / 32768;
  }

  registerProcessor("ears", Ears);
  registerProcessor("mouth", Mouth);
}
