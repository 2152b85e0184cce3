/* All kernels in one unit: nvcc makes PTX of it (build.rs), a C compiler a library for the tests. */
#include "grid.h"

#include "arguments.h"

#include "act.h"

#include "conv.h"
#include "elementwise.h"
#include "norm.h"
#include "pool.h"
#include "site.h"
