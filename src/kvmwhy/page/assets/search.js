// Many fixed strings in one pass: the automaton of Aho and Corasick, as a table of state and kind of byte.
// What ahocorasick-rs does elsewhere, which has no build for WebAssembly.

class Search {
  constructor(texts) {
    this.kinds = new Uint8Array(256); // 0: a byte that stands in none of the texts
    let kinds = 1, most = 1;
    for (const text of texts) {
      most += text.length;
      for (const byte of text) if (!this.kinds[byte]) this.kinds[byte] = kinds++;
    }
    this.width = kinds;
    this.next = new Int32Array(most * kinds);
    this.ends = [[]]; // by state: the numbers of the texts that end there, longest first
    this.lengths = texts.map((text) => text.length);
    texts.forEach((text, number) => {
      let state = 0;
      for (const byte of text) {
        const at = state * kinds + this.kinds[byte];
        if (!this.next[at]) {
          this.next[at] = this.ends.length;
          this.ends.push([]);
        }
        state = this.next[at];
      }
      this.ends[state].push(number);
    });
    this.complete();
  }

  // Where a text goes on otherwise, another may have begun; its state is known, as it is nearer to the root.
  complete() {
    const back = new Int32Array(this.ends.length), { next, width } = this;
    const queue = [];
    for (let kind = 0; kind < width; kind++) if (next[kind]) queue.push(next[kind]);
    for (let n = 0; n < queue.length; n++) {
      const state = queue[n], other = back[state];
      this.ends[state] = this.ends[state].concat(this.ends[other]);
      for (let kind = 0; kind < width; kind++) {
        const at = state * width + kind, below = next[at];
        if (below) {
          back[below] = next[other * width + kind];
          queue.push(below);
        } else {
          next[at] = next[other * width + kind];
        }
      }
    }
    this.hit = Uint8Array.from(this.ends, (numbers) => numbers.length > 0);
  }

  // Number, start and end of every occurrence, one after the other.
  find(data) {
    const { kinds, next, width, hit } = this, found = [];
    for (let at = 0, state = 0; at < data.length; at++) {
      state = next[state * width + kinds[data[at]]];
      if (hit[state]) for (const number of this.ends[state]) found.push(number, at + 1 - this.lengths[number], at + 1);
    }
    return Int32Array.from(found);
  }
}
