// Runs before a launched Node script: gives it its name, and keeps require() to what was looked at.
//
// Variables (require, process) and the script's bytes (b) come from the line on Node's command line. A module is loaded
// from Node itself or from below one of the `trees`, which were verified; from nowhere else, whatever `node_modules`
// stands on the way. import() is not offered: Node's loader of ES modules asks nobody whom we could ask.
//
// It keeps an honest script from loading what somebody put in its way. It is no sandbox for the script itself.
"use strict";

function launch(file, trees) {
  const fs = require("fs");
  const path = require("path");
  const vm = require("vm");
  const Module = require("module");
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
