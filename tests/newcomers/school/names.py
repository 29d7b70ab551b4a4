from cellcast_django.directory import Directory
from shop.models import Pupil, absences_about


class Families(Directory):
    def names(self, contacts):
        names = {}
        for each in Pupil.objects.filter(contact__in=contacts).order_by("name"):
            names[each.contact] = ", ".join(filter(None, [names.get(each.contact), each.name]))
        return names

    def search(self, words):
        pupils = Pupil.objects.all()
        for word in words.split():
            pupils = pupils.filter(name__icontains=word)
        return pupils.values_list("contact", flat=True)[:201]

    def references(self, references):
        return {f"absence-{each.pk}": (str(each), "") for each in absences_about(references)}
