/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fs/creds.c - as whom a server thread acts below; see creds.h. */
#include "fs/creds.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Fixed by fs_creds_start, before there are threads. */
static struct {
	uint64_t effective; /* what server threads run with, CAP_FSETID apart */
	uint64_t permitted;
	bool may_switch; /* we are root with the capabilities to be others */
	bool may_fsetid;
} own;

#define CAP_BIT(c) (UINT64_C(1) << (c))

static void caps_read(uint64_t *ret_effective, uint64_t *ret_permitted)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { 0 };

	syscall(SYS_capget, &h, d);
	*ret_effective = d[0].effective | (uint64_t)d[1].effective << 32;
	*ret_permitted = d[0].permitted | (uint64_t)d[1].permitted << 32;
}

static void caps_set(uint64_t effective)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = {
		{ .effective = (uint32_t)effective, .permitted = (uint32_t)own.permitted },
		{ .effective = effective >> 32, .permitted = own.permitted >> 32 },
	};

	syscall(SYS_capset, &h, d);
}

size_t fs_creds_start(void)
{
	uint64_t effective,
		need = CAP_BIT(CAP_SETUID) | CAP_BIT(CAP_SETGID) | CAP_BIT(CAP_DAC_OVERRIDE);
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
		lim.rlim_cur = lim.rlim_max = 1024;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);

	caps_read(&effective, &own.permitted);
	own.may_switch = geteuid() == 0 && (effective & need) == need;
	own.may_fsetid = effective & CAP_BIT(CAP_FSETID);
	own.effective = effective & ~(CAP_BIT(CAP_SYS_RESOURCE) | CAP_BIT(CAP_FSETID));
	if (own.effective != effective)
		caps_set(own.effective | (effective & CAP_BIT(CAP_FSETID)));
	return lim.rlim_cur;
}

static __thread bool own_umask; /* not shared with other threads */

/* A server thread's own umask and capabilities; the library starts threads as it likes, so at their first use. */
static void thread_ready(void)
{
	static __thread bool ready;

	if (ready)
		return;
	ready = true;
	own_umask = unshare(CLONE_FS) == 0; /* containers may forbid it */
	if (own.may_fsetid)
		caps_set(own.effective);
}

static void set_umask(mode_t mask)
{
	static __thread mode_t is = ~(mode_t)0;

	if (own_umask && is == mask)
		return;
	umask(mask);
	is = mask;
}

static void set_fs_ids(uid_t uid, gid_t gid)
{
	syscall(SYS_setfsgid, gid);
	syscall(SYS_setfsuid, uid);
}

struct fs_creds fs_creds_begin(const struct fuse_ctx *ctx, unsigned want)
{
	struct fs_creds c = { 0 };
	bool fsetid = own.may_fsetid && (want & FS_CREDS_KEEP_ID);

	thread_ready();
	if (want & FS_CREDS_OWN)
		set_umask(ctx->umask & 0777);
	if ((want & FS_CREDS_OWN) && own.may_switch && (ctx->uid != 0 || ctx->gid != 0)) {
		set_fs_ids(ctx->uid, ctx->gid);
		c.ids = true;
	}
	if ((want & FS_CREDS_GROUP) && own.may_switch) {
		syscall(SYS_setfsgid, ctx->gid);
		c.group = true;
	}
	if (fsetid || c.ids) {
		/* Leaving fsuid 0 took the file-system capabilities away. */
		caps_set(own.effective | (fsetid ? CAP_BIT(CAP_FSETID) : 0));
		c.caps = true;
	}
	return c;
}

void fs_creds_end(struct fs_creds *c)
{
	if (c->ids)
		set_fs_ids(0, 0);
	if (c->group)
		syscall(SYS_setfsgid, 0);
	if (c->caps)
		caps_set(own.effective);
}
