// Where we are in what is shown: the browser's own player, or a clock where it has none for the file (keypoints, an AVI).

export class Player {
  constructor(video) {
    this.video = video;
    this.url = null;
    this.close();
  }

  /** Show a file; returns width and height of its picture, or null where the browser cannot show it. */
  async open(file) {
    this.close();
    this.url = URL.createObjectURL(file);
    this.video.src = this.url;
    const shown = await new Promise((done) => {
      this.video.onloadeddata = () => done(this.video.videoWidth > 0);
      this.video.onerror = () => done(false);
    });
    this.video.onloadeddata = this.video.onerror = null;
    this.clock = shown ? null : { at: 0, since: null, rate: this.rate };
    if (!shown) this.release();
    return shown ? [this.video.videoWidth, this.video.videoHeight] : null;
  }

  /** Show a camera; returns width and height of its picture. */
  async openStream(stream) {
    this.close();
    this.live = true;
    const there = new Promise((done) => (this.video.onloadedmetadata = done));
    this.video.srcObject = stream;
    await there;
    this.video.onloadedmetadata = null;
    this.video.play().catch(() => {}); // that the file before was closed ends no camera
    return [this.video.videoWidth, this.video.videoHeight];
  }

  close() {
    for (const track of this.video.srcObject?.getTracks() ?? []) track.stop();
    this.release();
    this.live = false;
    this.clock = null;
    this.length = 0;
  }

  release() {
    this.video.pause();
    this.video.srcObject = null;
    this.video.removeAttribute("src");
    this.video.load();
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = null;
  }

  /** Seconds; of what the browser cannot show, as far as it has been read. */
  get duration() {
    return this.clock || !Number.isFinite(this.video.duration) ? this.length : this.video.duration;
  }

  /** Take in how long it is at least, in seconds. */
  atLeast(seconds) {
    this.length = Math.max(this.length, seconds);
  }

  get time() {
    const { clock } = this;
    if (!clock) return this.video.currentTime;
    if (clock.since === null) return clock.at;
    const now = clock.at + ((performance.now() - clock.since) / 1000) * clock.rate;
    if (now < this.length) return now;
    this.pause();
    return (clock.at = this.length);
  }

  set time(seconds) {
    if (!this.clock) this.video.currentTime = seconds;
    else Object.assign(this.clock, { at: seconds, since: this.clock.since === null ? null : performance.now() });
  }

  get paused() {
    return this.clock ? this.clock.since === null : this.video.paused;
  }

  get rate() {
    return this.video.defaultPlaybackRate;
  }

  set rate(rate) {
    this.video.defaultPlaybackRate = this.video.playbackRate = rate;
    if (this.clock) Object.assign(this.clock, { at: this.time, since: this.paused ? null : performance.now(), rate });
  }

  play() {
    if (this.time >= this.duration - 0.05) this.time = 0;
    if (this.clock) this.clock.since ??= performance.now();
    else this.video.play().catch(() => {}); // a pause that comes at once is no fault
  }

  pause() {
    if (!this.clock) return this.video.pause();
    if (this.clock.since === null) return;
    const at = this.clock.at + ((performance.now() - this.clock.since) / 1000) * this.clock.rate;
    Object.assign(this.clock, { at: Math.min(at, this.length), since: null });
  }
}
