/* M7: a library linked with constructors of its own, and the same dlopen'ed with RTLD_DEEPBIND. argv[1]: the library. */
#include <dlfcn.h>

#include "say.h"

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND);
  if (library == NULL) {
    puts(dlerror());
    return 1;
  }
  int *early = (int *)dlsym(library, "early_result");
  int (*works)(void) = (int (*)(void))dlsym(library, "early_sockets_work");
  SAY(*early);
  SAY(works());
  SAY(dlclose(library));
  return 0;
}
