/* SPDX-FileCopyrightText: 2026 microvm.host contributors */
/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The smallest guest of QEMU's machine microvm that can be stopped gracefully: no Linux, no initramfs, ready at once.
 *
 * It prints TOY-GUEST-READY on the first serial port and sleeps. Eighteen times a second it looks whether the power
 * button was pressed (ACPI generic event device), says TOY-GUEST-OFF and powers off. Built with STUBBORN it ignores the
 * button. QEMU enters it by its PVH note, in 32 bit protected mode without paging (xen/include/public/arch-x86/hvm).
 * Addresses of the event device: hw/i386/microvm.h and hw/acpi/generic_event_device.h of QEMU.
 */
#define SERIAL 0x3f8
#define GED_EVENTS 0xfea00000
#define GED_SLEEP 0xfea00200
#define POWER_BUTTON 2
#define SLEEP_S5 0x34

.section .note.pvh, "a", @note
.balign 4
	.long	4, 4, 18		/* name, description, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.long	_start

.text
.code32
.globl _start
_start:
	cli
	mov	$stack, %esp
	lgdt	gdtr
	ljmp	$8, $1f
1:	mov	$16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	lidt	idtr
	mov	$ready, %esi
	call	print
	mov	$pic, %esi		/* interrupts at 0x20, only the timer's */
2:	lodsw
	test	%ax, %ax
	jz	3f
	movzbl	%ah, %edx
	out	%al, %dx
	jmp	2b
3:	sti
4:	hlt
#ifndef STUBBORN
	testl	$POWER_BUTTON, GED_EVENTS
	jz	4b
	mov	$bye, %esi
	call	print
	movb	$SLEEP_S5, GED_SLEEP
#endif
	jmp	4b

print:	mov	$SERIAL, %dx
5:	lodsb
	test	%al, %al
	jz	6f
	out	%al, %dx
	jmp	5b
6:	ret

timer:	push	%eax
	mov	$0x20, %al		/* end of interrupt */
	out	%al, $0x20
	pop	%eax
	iret

ready:	.asciz	"TOY-GUEST-READY\n"
bye:	.asciz	"TOY-GUEST-OFF\n"
pic:	.byte	0x11, 0x20, 0x20, 0x21, 4, 0x21, 1, 0x21, 0xfe, 0x21	/* value, port */
	.byte	0x11, 0xa0, 0x28, 0xa1, 2, 0xa1, 1, 0xa1, 0xff, 0xa1
	.byte	0x34, 0x43, 0, 0x40, 0, 0x40, 0, 0

.balign 8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	.word	gdtr - gdt - 1
	.long	gdt
.set	timer_low, timer - _start
.balign 8
idt:	.fill	0x20, 8, 0
	.word	timer_low, 8, 0x8e00, 0x10	/* the timer's handler, which is above 1 MiB */
idtr:	.word	idtr - idt - 1
	.long	idt
.balign 16
	.fill	256, 1, 0
stack:
