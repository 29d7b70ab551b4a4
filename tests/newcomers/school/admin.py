from shop.models import Absence, Pupil


@admin.register(Pupil)
class PupilAdmin(OfTeam, admin.ModelAdmin):
    own_number = "own_number"


@admin.register(Absence)
class AbsenceAdmin(OfTeam, admin.ModelAdmin):
    own_number = "pupil__own_number"
    list_display = ["pupil", "day", "asked_at", "reason", "escalated_at"]
