// Runs before a launched Node script: gives it its name, and keeps require() to what was looked at.
//
// Variables (require, process) and the script's bytes (b) come from the line on Node's command line. A module is loaded
// from Node itself or from below one of the `trees`, which were verified; from nowhere else, whatever `node_modules`
// stands on the way. Its bytes must be those that were registered, as the daemon says in what it has us run: a folder
// above a tree can be exchanged, and put back. import() is not offered: Node's loader of ES modules asks nobody whom we
// could ask.
//
// It keeps an honest script from loading what somebody put in its way. It is no sandbox for the script itself.
"use strict";

function launch(file, packed) {
  const crypto = require("crypto");
  const fs = require("fs");
  const path = require("path");
  const vm = require("vm");
  const Module = require("module");
  const zlib = require("zlib");
  const trees = Object.keys(packed);
  const registered = new Map();
  for (const tree of trees) {
    const words = zlib.inflateSync(Buffer.from(packed[tree], "base64")).toString("utf8").split("\0");
    for (let at = 0; at + 1 < words.length; at += 2) {
      registered.set(words[at] === "" ? tree : `${tree}/${words[at]}`, words[at + 1]);
    }
  }
  const own = (name) => name === file || trees.some((tree) => name === tree || name.startsWith(tree + "/"));

  const resolve = Module._resolveFilename;
  Module._resolveFilename = function (request, ...words) {
    const found = resolve.call(this, request, ...words);
    if (!path.isAbsolute(found) || own(path.normalize(found))) return found;
    throw new Error(
      `${found} lies outside of what was registered with ${file}; if it belongs to it: ` +
        `keychain-auth register --script ${file} --tree ${path.dirname(found)}`,
    );
  };

  // The very bytes that are compiled are looked at. (Node has resolved all links in the name by then.)
  Module._extensions[".js"] = function (module, name) {
    if (name.endsWith(".mjs")) throw new Error(`${name} is an ES module, and a launched script cannot load it`);
    const content = fs.readFileSync(name);
    const hash = crypto.createHash("sha256").update(content).digest("hex");
    if (name !== file && registered.get(name) !== `file ${hash}`) {
      throw new Error(
        `${name} is not what was registered with ${file}; if you changed it: keychain-auth upgrade ${file}`,
      );
    }
    module._compile(content.toString("utf8").replace(/^\uFEFF/, ""), name);
  };
  Module._extensions[".mjs"] = Module._extensions[".js"];

  // As Node's own, but compiled without a way to import().
  Module.prototype._compile = function (content, name) {
    const text = content.startsWith("#!") ? "//" + content : content;
    const names = ["exports", "require", "module", "__filename", "__dirname"];
    const run = vm.compileFunction(text, names, { filename: name });
    const load = (id) => this.require(id);
    load.resolve = (request, options) => Module._resolveFilename(request, this, false, options);
    load.main = process.mainModule;
    load.cache = Module._cache;
    load.extensions = Module._extensions;
    return Reflect.apply(run, this.exports, [this.exports, load, this, name, path.dirname(name)]);
  };

  fs.closeSync(3);
  const main = new Module(file, null);
  main.filename = file;
  main.paths = Module._nodeModulePaths(path.dirname(file));
  process.mainModule = main;
  main.id = ".";
  Module._cache[file] = main;
  main._compile(b.toString("utf8"), file);
  main.loaded = true;
}
