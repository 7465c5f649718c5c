// How a function takes a libc name: declared under a name of our own with the libc name as its symbol, so that libc's
// headers may be included beside it.
#pragma once

#define TTO_EXPORT(result, name, ...)                                                                            \
  extern "C" __attribute__((visibility("default"))) result preload_##name(__VA_ARGS__) __asm__(#name);            \
  extern "C" result preload_##name(__VA_ARGS__)
