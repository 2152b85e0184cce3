// A QEMU plugin (interface 1 of QEMU 4.2 to 8.2) that counts how often each basic block of a program runs. At exit, it writes
// a line per block: executions, instructions, their bytes in hexadecimal. `arm_estimate.py` compiles and runs it.
//
//     gcc -O2 -shared -fPIC -o blocks.so arm_blocks.c && qemu-aarch64 -plugin ./blocks.so,out=blocks.txt PROGRAM
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The used part of qemu-plugin.h.
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
int qemu_plugin_version = 1;
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *counter, uint64_t added);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);

struct block {
    struct block *next;
    uint64_t executions;
    size_t instructions;
    uint32_t code[];
};

static struct block *blocks;
static const char *out;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t count = qemu_plugin_tb_n_insns(tb);
    struct block *block = calloc(1, sizeof *block + count * sizeof *block->code);
    block->instructions = count;
    for (size_t i = 0; i < count; i++)
        memcpy(&block->code[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof *block->code);
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &block->executions, 1);
}

static void ended(qemu_plugin_id_t id, void *unused)
{
    FILE *file = fopen(out, "w");
    for (struct block *block = blocks; block; block = block->next) {
        fprintf(file, "%" PRIu64 " %zu ", block->executions, block->instructions);
        for (size_t i = 0; i < block->instructions; i++)
            fprintf(file, "%08" PRIx32, block->code[i]);
        fputc('\n', file);
    }
    fclose(file);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            out = strdup(argv[i] + 4);
    if (!out)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, 0);
    return 0;
}
